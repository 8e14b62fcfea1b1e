"""`python -m bench.soak` is `make soak`."""

from bench.soak.soak_command import soak

soak()
