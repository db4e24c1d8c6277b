"""A worker process: the loading of an application, its start, its signals, and its exit."""

from __future__ import annotations
