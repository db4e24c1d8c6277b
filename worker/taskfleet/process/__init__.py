"""A worker process: how it loads an application, starts, is asked to end, and ends."""

from __future__ import annotations
