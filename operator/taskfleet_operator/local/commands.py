"""`taskfleet up FILE`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from ..resource.manifest import load_manifest
from . import session, view
from .plan import plan_of


def run_up(file: Path, *, redis_url: str | None, json_lines: bool) -> int:
    """Run a TaskQueue manifest on this machine until Ctrl-C or SIGTERM; returns the exit code.

    `redis_url` is a URL or "embedded"; without it `REDIS_URL` counts, then the manifest's own, and a Valkey of our own
    when that one cannot be reached from here, as a cluster's address cannot. Raises ConfigurationError for a bad
    manifest, BrokerConnectionError for a Redis that was asked for and does not answer.
    """
    plan = plan_of(load_manifest(file), file.parent)
    shown = view.choose(json_lines=json_lines)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="taskfleet-up-") as folder,
            session.redis_of(plan, redis_url, Path(folder), shown) as url,
        ):
            outcome = asyncio.run(session.run(plan, url, Path(folder), shown, asyncio.Event()))
    finally:
        shown.close()
    return 0 if outcome.drained else 1
