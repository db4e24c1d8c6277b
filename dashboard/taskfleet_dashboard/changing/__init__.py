"""Everything that can be changed, its record, and the jobs about many dead letters."""
