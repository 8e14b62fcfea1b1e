"""A run folder as numbers: what was read, by cell, and the registry of all numbers (metrics.METRICS)."""
