"""Who may look, and who may change: one module for each way to find out."""
