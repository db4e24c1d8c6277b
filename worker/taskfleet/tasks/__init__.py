"""Tasks: their definitions, names, options and calls."""
