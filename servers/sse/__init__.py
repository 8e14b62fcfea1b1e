"""Server-Sent Events: the answer as `text/event-stream`."""
