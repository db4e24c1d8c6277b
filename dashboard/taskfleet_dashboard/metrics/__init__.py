"""What Prometheus reads: the figures of the dashboard itself, and those of queues, fleet and Redis."""
