"""The golden clock: the clients' own error, against a server that shares no code with ours and stamps each send."""
