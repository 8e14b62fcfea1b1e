"""Polling: the client asks again and again; tokens wait in Redis."""
