"""Chunked HTTP: the answer as JSON lines in one response."""
