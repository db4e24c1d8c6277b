"""The version of the distribution, which workers report."""

from __future__ import annotations

__version__ = "0.1.0"
