"""What a client does, without I/O: bytes, stamps and times are arguments (pure). The rest is in `clients.drivers`."""
