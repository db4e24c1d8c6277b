"""Schedules: their ticks, the decision which missed tick still fires, and the loop that fires them."""
