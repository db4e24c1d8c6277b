"""Thumbnails of photographs: a small application of Taskfleet."""

from __future__ import annotations
