"""The parts of clients/locustfile.py. Importing them patches the process for gevent: only a locustfile may."""
