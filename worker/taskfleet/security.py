"""Keys and options of sealing, from code, settings and files."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from taskfleet.config import SecuritySettings
from taskfleet.engine import encryption
from taskfleet.engine.sealing import EXPANSION, Policy, Seal
from taskfleet.errors import ConfigurationError

logger = logging.getLogger("taskfleet")

Compression = Literal["zstd"]
Keys = Sequence[str | bytes]

_MAKE_ONE = "make one with: openssl rand -base64 32"
_SHORT_KEY_BYTES = 16
_POLICIES = ("require", "write", "read")


def seal_of(
    settings: SecuritySettings,
    *,
    signing_keys: Keys | None,
    encryption_keys: Keys | None,
    compression: Compression | None,
    compression_threshold_bytes: int | None,
    sealing: Policy | None,
    stored_limit_bytes: int,
) -> Seal:
    """The seal of one `TaskQueue`: its own options over the settings. Errors: `ConfigurationError` names the option."""
    if signing_keys is None:
        signing_keys = _configured(settings.signing_keys, settings.signing_keys_file, "signing_keys")
    if encryption_keys is None:
        encryption_keys = _configured(settings.encryption_keys, settings.encryption_keys_file, "encryption_keys")
    compression = compression or settings.compression
    if compression not in (None, "zstd"):
        raise ConfigurationError(f"compression={compression!r} is not known; use 'zstd' or None")
    policy = sealing or settings.sealing
    if policy not in _POLICIES:
        raise ConfigurationError(f"sealing={policy!r} is not known; use one of {', '.join(_POLICIES)}")
    threshold = (
        settings.compression_threshold_bytes if compression_threshold_bytes is None else compression_threshold_bytes
    )
    if threshold < 0:
        raise ConfigurationError(f"compression_threshold_bytes={threshold} is negative")
    return Seal(
        signing_keys=[_signing_key(key, n) for n, key in enumerate(_listed(signing_keys, "signing_keys"))],
        encryption_keys=[_encryption_key(key, n) for n, key in enumerate(_listed(encryption_keys, "encryption_keys"))],
        compress=compression == "zstd",
        threshold_bytes=threshold,
        max_expanded_bytes=EXPANSION * stored_limit_bytes,
        policy=policy,
    )


def _configured(keys: tuple[str, ...], path: Path | None, option: str) -> list[str]:
    """Keys of the settings, then those of the file: one a line, empty lines and those that begin with # apart."""
    if path is None:
        return list(keys)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"security.{option}_file {path}: cannot be read: {reason}") from None
    found = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not found:
        # An empty secret must not switch off what it is there for.
        raise ConfigurationError(f"security.{option}_file {path}: there is no key in it; {_MAKE_ONE}")
    return [*keys, *found]


def _listed(keys: Keys, option: str) -> Keys:
    if isinstance(keys, (str, bytes)):
        raise ConfigurationError(f"{option} is one key; write a list of keys, such as [key]")
    return keys


def _signing_key(key: str | bytes, position: int) -> bytes:
    raw = key.encode() if isinstance(key, str) else bytes(key)
    if not raw:
        raise ConfigurationError(f"signing_keys: key {position} is empty; {_MAKE_ONE}")
    if len(raw) < _SHORT_KEY_BYTES:
        logger.warning("signing_keys: key %d has only %d bytes and can be guessed; %s", position, len(raw), _MAKE_ONE)
    return raw


def _encryption_key(key: str | bytes, position: int) -> bytes:
    raw = key
    if isinstance(raw, str):
        try:
            raw = base64.b64decode(raw.translate({45: 43, 95: 47}) + "=" * (-len(raw) % 4), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
    if len(raw) != encryption.KEY_BYTES:
        raise ConfigurationError(
            f"encryption_keys: key {position} is not {encryption.KEY_BYTES} bytes in base64; {_MAKE_ONE}"
        )
    return bytes(raw)
