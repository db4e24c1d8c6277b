"""Tests on a real API server with its controllers, and no nodes."""

from __future__ import annotations
