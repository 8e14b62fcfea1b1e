"""What no plan asks of stacks: when they notice that a client has left, and how many streams a core bears."""
