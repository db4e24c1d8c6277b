"""Tasks: how they are defined, named and called, and what can be set on them."""
