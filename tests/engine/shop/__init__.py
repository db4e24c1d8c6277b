"""An application of several modules, for the all-in-one process."""
