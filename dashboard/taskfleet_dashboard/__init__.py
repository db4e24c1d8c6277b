"""The dashboard of Taskfleet: `taskfleet dashboard`, or mounted into an application of FastAPI or Starlette.

app.mount("/dashboard", dashboard(queue, access=who_may_look))
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("fastapi") is None:
    raise ImportError("taskfleet_dashboard needs FastAPI: pip install 'taskfleet[web]'", name="fastapi")

from taskfleet_dashboard.access.visitor import Visitor
from taskfleet_dashboard.mounting import dashboard

__all__ = ["Visitor", "dashboard"]
