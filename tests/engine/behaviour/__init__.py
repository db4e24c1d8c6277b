"""The behaviour of queues, in Redis and in the memory of one process."""
