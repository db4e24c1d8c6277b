"""The page about performance: its tables and pictures, from the figures of one run."""
