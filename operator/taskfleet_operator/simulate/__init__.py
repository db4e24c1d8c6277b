"""A closed loop in simulated time: the real decision and its drains, on simulated queues and pods, beside rivals."""

from __future__ import annotations
