"""Everything that can be changed."""

from __future__ import annotations

from typing import Any


class Changes:
    """Filled next: the routes name its methods."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)
