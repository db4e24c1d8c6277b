"""What tells others how the operator does: probes, metrics, figures."""
