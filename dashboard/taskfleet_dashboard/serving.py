"""One dashboard."""

from __future__ import annotations

from typing import Any


class Serving:
    """Filled next."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)
