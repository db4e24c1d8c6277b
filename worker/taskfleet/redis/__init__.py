"""The queue in Redis: keys, scripts, and the broker that speaks them."""

from __future__ import annotations
