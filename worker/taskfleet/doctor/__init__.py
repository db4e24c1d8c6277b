"""`taskfleet doctor`: what is wrong with the queues in a Redis, and its repair (docs/how-to/doctor.md)."""

from __future__ import annotations
