"""WebSocket: one message a text frame, many answers over one connection."""
