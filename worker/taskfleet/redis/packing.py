"""Commands as the bytes that Redis reads."""

from __future__ import annotations

from typing import Any

import hiredis


def pack(*command: Any) -> bytes:
    """A command of str, bytes, int and float parts."""
    packed: bytes = hiredis.pack_command(command)
    return packed
