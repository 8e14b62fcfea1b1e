"""`python -m bench.proxy` is `tokenderby proxy`."""

from bench.proxy.proxy_commands import proxy

proxy()
