"""Load and faults on every server, directly and through the proxy: what they hold, leave and lose."""
