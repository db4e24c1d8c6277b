"""Routes for FastAPI: `app.include_router(router(queue))`. docs/how-to/fastapi.md says what they do."""

from __future__ import annotations

import importlib.util
import re

_LEAST = (0, 137)  # since this version an included router may get further routes


def _check() -> None:
    if importlib.util.find_spec("fastapi") is None:
        raise ImportError("taskfleet.integrations.fastapi needs FastAPI: pip install 'taskfleet[web]'")
    from fastapi import __version__ as found

    if tuple(map(int, re.findall(r"\d+", found)[:2])) < _LEAST:
        least = ".".join(map(str, _LEAST))
        raise ImportError(
            f"taskfleet.integrations.fastapi needs FastAPI {least} or newer, and {found} is installed: "
            "pip install --upgrade 'taskfleet[web]'"
        )


_check()

from taskfleet.integrations.fastapi.routing import router  # noqa: E402
from taskfleet.integrations.observing.rules import Thresholds  # noqa: E402

__all__ = ["Thresholds", "router"]
