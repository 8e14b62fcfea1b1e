"""A run's outcome for other programs and pages: one format per module."""
