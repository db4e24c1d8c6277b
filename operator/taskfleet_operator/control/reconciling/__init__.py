"""From a TaskQueue to its children."""
