"""Whether a cell that was disturbed is caught: each kind of disturbance, made on purpose, as often as wanted."""
