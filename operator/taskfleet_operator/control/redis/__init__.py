"""The Redis servers of the TaskQueues, and what the operator keeps in them."""
