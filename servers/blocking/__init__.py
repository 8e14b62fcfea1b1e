"""Blocking: the baseline, one response when the answer is complete."""
