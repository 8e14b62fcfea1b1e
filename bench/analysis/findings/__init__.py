"""What the numbers say: races, scoreboard, headline, survival, gates, warnings, and two runs against each other."""
