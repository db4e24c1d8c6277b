"""All parts in one process: workers, scheduler and autoscaler inside an application."""

from __future__ import annotations
