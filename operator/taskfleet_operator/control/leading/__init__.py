"""Which of several operators writes."""
