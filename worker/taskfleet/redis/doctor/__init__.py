"""Reads and repairs the invariants of the keys in Redis (docs/decisions/0030); `taskfleet.doctor` judges."""

from __future__ import annotations
