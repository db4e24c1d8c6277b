"""Runs the command of the simulator."""

from __future__ import annotations

from .command import app

app()
