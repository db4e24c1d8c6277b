"""The producer: from messages to items in Redis, one by one, in bulk, or as a workflow."""

from __future__ import annotations
