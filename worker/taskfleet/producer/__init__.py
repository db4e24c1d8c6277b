"""The producer: it makes items of messages and sends them to Redis, one by one, in bulk, or as a workflow."""

from __future__ import annotations
