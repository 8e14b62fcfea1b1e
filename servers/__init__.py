"""What is sent, and how: the seeded stream, the transports, and a server for each."""
