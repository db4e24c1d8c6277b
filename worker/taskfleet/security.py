"""The seal of an application: its keys and options from the code, the settings and files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from taskfleet import checks, showing
from taskfleet.errors import ConfigurationError
from taskfleet.protocol.sealing import EXPANSION, Policy, Seal
from taskfleet.settings import SecuritySettings

logger = showing.logger("taskfleet")

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
    """The seal of one `TaskQueue`; its own options override the settings. Errors: `ConfigurationError`."""
    if signing_keys is None:
        signing_keys = _configured(settings.signing_keys, settings.signing_keys_file, "signing_keys")
    else:
        signing_keys = _given(signing_keys, "signing_keys")
    if encryption_keys is None:
        encryption_keys = _configured(settings.encryption_keys, settings.encryption_keys_file, "encryption_keys")
    else:
        encryption_keys = _given(encryption_keys, "encryption_keys")
    compression = settings.compression if compression is None else compression
    if not isinstance(compression, str | None) or compression not in (None, "zstd"):  # pyright: ignore
        raise ConfigurationError(f"compression={checks.shown(compression)} is not known; use 'zstd' or None")
    policy = settings.sealing if sealing is None else sealing
    if not isinstance(policy, str) or policy not in _POLICIES:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"sealing={checks.shown(policy)} is not known; use one of {', '.join(_POLICIES)}"
            f"{checks.did_you_mean(policy, _POLICIES)}"
        )
    said = sealing is not None or "sealing" in settings.model_fields_set
    if said and policy == "require" and not (signing_keys or encryption_keys):
        raise ConfigurationError(
            "sealing='require' is set, and there is no key to require; set signing_keys or encryption_keys"
        )
    threshold = (
        settings.compression_threshold_bytes if compression_threshold_bytes is None else compression_threshold_bytes
    )
    checks.whole("compression_threshold_bytes", threshold)
    return Seal(
        signing_keys=[_signing_key(key, n) for n, key in enumerate(signing_keys)],
        encryption_keys=[_encryption_key(key, n) for n, key in enumerate(encryption_keys)],
        compress=compression == "zstd",
        threshold_bytes=threshold,
        max_expanded_bytes=EXPANSION * stored_limit_bytes,
        policy=policy,
    )


def _configured(keys: tuple[str, ...], path: Path | None, option: str) -> list[str]:
    """Keys of the settings, then those of the file, one a line. Empty lines and lines that begin with # are skipped."""
    if path is None:
        return list(keys)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"security.{option}_file {path}: cannot be read: {reason}") from None
    found = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not found:
        # An empty secret must not switch off the protection that it is for.
        raise ConfigurationError(f"security.{option}_file {path}: there is no key in it; {_MAKE_ONE}")
    return [*keys, *found]


def _given(keys: Keys, option: str) -> Keys:
    """The keys that the code gives: a list of at least one. Without the option, the settings apply."""
    if isinstance(keys, (str, bytes, bytearray)):
        raise ConfigurationError(f"{option} is one key; write a list of keys, such as [key]")
    if not isinstance(keys, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{option} is {checks.a_thing(keys)}; write a list of keys, the first of which seals")
    if not keys:
        # An empty secret must not switch off the protection that it is for.
        raise ConfigurationError(f"{option} is set and holds no key; {_MAKE_ONE}, or leave it out")
    for position, key in enumerate(keys):
        if not isinstance(key, (str, bytes, bytearray)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"{option}: key {position} is {checks.a_thing(key)}; expected bytes or text")
    return keys


def _signing_key(key: str | bytes, position: int) -> bytes:
    try:
        raw = key.encode() if isinstance(key, str) else bytes(key)
    except UnicodeEncodeError:
        raise ConfigurationError(f"signing_keys: key {position} is not valid Unicode; {_MAKE_ONE}") from None
    if not raw.strip():
        raise ConfigurationError(f"signing_keys: key {position} is empty; {_MAKE_ONE}")
    if len(raw) < _SHORT_KEY_BYTES:
        logger.warning("signing_keys: key %d has only %d bytes and can be guessed; %s", position, len(raw), _MAKE_ONE)
    return raw


def _encryption_key(key: str | bytes, position: int) -> bytes:
    from taskfleet.protocol import encryption  # only here: most applications encrypt nothing

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
