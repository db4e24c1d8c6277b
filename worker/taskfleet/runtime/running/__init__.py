"""Running claimed tasks: decode, inject, call, gather batches, stop."""

from __future__ import annotations
