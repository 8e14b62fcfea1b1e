"""What the house itself costs, beside the least that it could cost on this machine (`make perf`, docs/selfcost.md)."""
