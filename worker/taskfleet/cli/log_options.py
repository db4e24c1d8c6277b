"""The options of the log, for the commands that run processes."""

from __future__ import annotations

from typing import Any

import typer

LOG_FORMAT: Any = typer.Option("", "--log-format", help="text or json; default TASKFLEET_LOG_FORMAT, else text.")
