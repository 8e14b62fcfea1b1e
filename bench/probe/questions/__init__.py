"""The questions: a module names its own in `QUESTIONS` (bench.probe.question)."""
