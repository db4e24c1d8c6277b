"""A fleet, read again and again: the figures of its queues, its workers, its longest runs and its last failures."""
