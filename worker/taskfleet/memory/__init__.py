"""The queue in the memory of one process: `memory://`, and the broker that tests use."""

from __future__ import annotations
