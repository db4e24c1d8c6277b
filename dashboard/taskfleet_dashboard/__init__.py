"""The dashboard of Taskfleet: `taskfleet dashboard`, or mounted into an application of FastAPI or Starlette.

app.mount("/dashboard", dashboard(queue, access=who_may_look))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet_dashboard.access.visitor import Visitor
    from taskfleet_dashboard.mounting import dashboard

__all__ = ["Visitor", "dashboard"]


def __getattr__(name: str) -> Any:
    # The command of this package is loaded by every other command, which must neither need FastAPI nor wait for it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from taskfleet_dashboard.access import visitor
        from taskfleet_dashboard.mounting import dashboard
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette"):
            raise
        raise ImportError("taskfleet_dashboard needs FastAPI: pip install 'taskfleet[web]'", name=error.name) from None
    return {"Visitor": visitor.Visitor, "dashboard": dashboard}[name]
