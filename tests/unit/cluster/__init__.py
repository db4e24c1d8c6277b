"""Tests of the code that makes the test cluster."""

from __future__ import annotations
