"""The scaling loops, and the fleet that each of them scales."""
