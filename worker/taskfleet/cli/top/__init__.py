"""`taskfleet top`: a view of a production Redis that never writes to it."""
