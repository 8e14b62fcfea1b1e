"""What was run, and what it means: plans, processes, the timeout proxy, the run folder and its analysis."""
