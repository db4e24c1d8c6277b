"""The worker: claims, runs, renews, reports, drains."""

from __future__ import annotations
