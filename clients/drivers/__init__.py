"""What moves a client's bytes: connect, read, stamp, write, wait. Nothing here knows a transport."""
