"""The turns of a worker: the step calls that record outcomes and claim tasks, and the start of claimed tasks."""

from __future__ import annotations
