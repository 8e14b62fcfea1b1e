"""`python -m bench.selfcost` is `make perf`."""

from bench.selfcost.perf_command import perf

perf()
