"""A TaskQueue on this machine: worker processes in place of pods, the same decision."""

from __future__ import annotations
