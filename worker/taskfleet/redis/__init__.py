"""The queue in Redis: connections, keys, scripts, and the broker that calls them."""

from __future__ import annotations
