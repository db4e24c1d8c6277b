"""The executors of plain functions: threads and child processes."""

from __future__ import annotations
