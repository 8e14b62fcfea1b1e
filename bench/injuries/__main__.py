"""`python -m bench.injuries --times 20`."""

from bench.injuries.injuries_command import injuries

injuries()
