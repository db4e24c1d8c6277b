"""How queues behave, whatever they are kept in: Redis or the memory of one process."""
