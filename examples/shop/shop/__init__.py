"""A shop that leaves to tasks whatever a customer need not wait for."""

from __future__ import annotations
