"""`python -m bench.proxy` is `tokenderby proxy`."""

from bench.proxy.commands import proxy

proxy()
