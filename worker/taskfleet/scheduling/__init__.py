"""Tasks by the clock: when a schedule ticks, which missed tick still fires, and the loop that fires them."""
