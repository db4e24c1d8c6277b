"""From the end of a run to an outcome that waits to be recorded."""

from __future__ import annotations
