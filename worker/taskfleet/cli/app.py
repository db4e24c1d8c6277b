"""The frame of the command: its subcommands, those of other packages, and errors in one line."""

from __future__ import annotations

import difflib
import re
import sys
from importlib import metadata
from typing import Any, cast

import typer

from taskfleet import logs, showing
