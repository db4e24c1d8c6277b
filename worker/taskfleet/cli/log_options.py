"""Options of the commands that run processes: the log, and the dashboard beside them."""

from __future__ import annotations

from typing import Any

import typer

LOG_FORMAT: Any = typer.Option("", "--log-format", help="text or json; default TASKFLEET_LOG_FORMAT, else text.")
NO_DASHBOARD: Any = typer.Option(False, "--no-dashboard", help="Serve no dashboard.")
DASHBOARD_PORT: Any = typer.Option(
    None, "--dashboard-port", help="Serve the dashboard on this port; default 8080, or any other.", min=0, max=65535
)
