"""What one client saw: a client for each transport, the load, and the judgement of every message."""
