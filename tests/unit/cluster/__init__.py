"""Tests of what makes the test cluster."""

from __future__ import annotations
