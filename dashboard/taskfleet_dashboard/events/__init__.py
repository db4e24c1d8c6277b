"""Live updates: one poller for each topic, whoever watches it, and a stream for each browser."""
