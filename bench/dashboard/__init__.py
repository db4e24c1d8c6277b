"""What the dashboard costs: `python -m bench.dashboard` prints the figures of docs/how-to/dashboard.md."""
