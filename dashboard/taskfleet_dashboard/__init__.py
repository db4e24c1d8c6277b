"""The dashboard of Taskfleet."""
