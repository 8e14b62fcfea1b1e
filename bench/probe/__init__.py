"""`tokenderby probe`: what stands in front of a deployment does to streams, found out from outside.

command → engine → questions/*.py (one question a file) → channel (a connection and all that was seen of it)
"""
