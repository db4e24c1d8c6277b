"""`TypeVar` with a default, which Python has since 3.13.

Only type checkers use the defaults. typing_extensions, which has them for older Pythons, would cost each worker 0.6 MB
of memory.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVar
else:

    def TypeVar(name: str, *, default: Any, **options: Any) -> typing.TypeVar:  # noqa: N802 - the name of a class
        """A type variable. A class with two or more of them has to fill in the defaults itself (`Message`)."""
        return typing.TypeVar(name, **options)
