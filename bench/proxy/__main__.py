"""`python -m bench.proxy` is `tokenderby proxy`."""

from bench.proxy.cli import proxy

proxy()
