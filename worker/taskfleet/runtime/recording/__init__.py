"""Recording: the end of a run becomes an outcome, which waits in the outbox until Redis has recorded it."""

from __future__ import annotations
