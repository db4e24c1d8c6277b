"""Everything that can be read."""

from __future__ import annotations

from typing import Any


class Desk:
    """Filled next: the routes name its methods."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)
