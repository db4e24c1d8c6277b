"""The queue in the memory of one process: `memory://`, and the broker for tests."""

from __future__ import annotations
