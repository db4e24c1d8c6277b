"""The library in ten short tests: read them in order."""

from __future__ import annotations
