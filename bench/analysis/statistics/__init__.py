"""How sure a number is, and when two of them differ: intervals, contrasts, the one rule for claims (pure)."""
