"""`python -m bench.stacks leaving` and `python -m bench.stacks load`."""

from bench.stacks.stacks_command import stacks

stacks()
