"""The worker pods: what becomes of them, and why they do not start."""
