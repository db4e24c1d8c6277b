"""Compression with zstd; a frame is never expanded beyond a given limit.

Python 3.14 brings zstd; before it, `backports.zstd` (the extra `taskfleet[zstd]`) has the same interface.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from taskfleet.errors import ConfigurationError, SerializationError

_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_INSTALL = "install it with: pip install 'taskfleet[zstd]'"
# Level 3 needs a window of at most 2 MiB, while a frame may ask its reader for 2 GiB.
_WINDOW_LOG_MAX = 23

# Any: the two modules have one interface, and only one of them exists for a given Python.
_zstd: Any = None


def _load() -> Any:
    global _zstd
    if _zstd is None:
        _zstd = importlib.import_module(_MODULE)
    return _zstd


def check() -> None:
    """Raise `ConfigurationError` when zstd is not installed."""
    try:
        _load()
    except ImportError:
        raise ConfigurationError(f"compression='zstd' needs {_MODULE}: {_INSTALL}") from None


def compress(data: bytes) -> bytes:
    """One frame that names the size of its content."""
    packed: bytes = _load().compress(data)
    return packed


def expand(frame: bytes, limit: int) -> bytes:
    """The content of `frame`; `SerializationError` for more than `limit` bytes, or for anything but one whole frame.

    The size that the frame names is checked before anything is expanded. The expanded bytes are counted as well, since
    that size may be missing or false.
    """
    try:
        zstd = _load()
    except ImportError:
        raise SerializationError(f"it is compressed with zstd, and {_MODULE} is missing here: {_INSTALL}") from None
    try:
        named = zstd.get_frame_info(frame).decompressed_size
        if named is not None and named > limit:
            raise SerializationError(f"it would be {named} bytes when unpacked; at most {limit} are taken")
        unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})
        data: bytes = unpacker.decompress(frame, max_length=limit + 1)
    except (zstd.ZstdError, EOFError, ValueError) as error:
        raise SerializationError(f"its zstd frame is damaged: {error}") from None
    if len(data) > limit:
        raise SerializationError(f"it is more than {limit} bytes when unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise SerializationError("its zstd frame is damaged: it is not one whole frame")
    return data
