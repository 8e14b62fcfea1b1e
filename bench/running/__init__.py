"""Carrying out a plan: processes, blocks, machine facts, and what makes a cell void."""
