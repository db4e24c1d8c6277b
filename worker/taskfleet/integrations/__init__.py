"""Taskfleet in other frameworks: the routes for FastAPI, and the reports that they return.

`observing` knows no framework; each other package needs its own, and says what to install.
"""

from __future__ import annotations
