"""The API server: connections, calls, limits."""
