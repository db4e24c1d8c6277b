"""Encryption with XAES-256-GCM: AES-256-GCM with a nonce so long that a random one never repeats.

The specification is C2SP's. Plain AES-GCM is safe for 2³² random nonces under one key, which a busy queue uses in
4 days. Here the first half of a 192-bit nonce derives a key for the message (NIST SP 800-108, with CMAC), and the
second half is the nonce under that key. One key is good for 2⁸⁰ messages.
"""

from __future__ import annotations

import os
from typing import Any

from taskfleet.errors import ConfigurationError

KEY_BYTES = 32
NONCE_BYTES = 24


class Cipher:
    """A cipher with one key. It has no counter, so threads and forks can share it."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives import ciphers
            from cryptography.hazmat.primitives.ciphers import aead, algorithms, modes
        except ImportError:
            raise ConfigurationError(
                "encryption_keys need the package cryptography: install it with: pip install 'taskfleet[crypto]'"
            ) from None
        self._gcm: Any = aead.AESGCM
        self._invalid = InvalidTag
        # CMAC is built on the bare block cipher; no message is encrypted with it directly.
        self._block = ciphers.Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305
        zero = int.from_bytes(self._block.encryptor().update(bytes(16)), "big")
        # CMAC's subkey: twice the encrypted zero block in GF(2¹²⁸).
        self._subkey = (zero << 1) & ((1 << 128) - 1) ^ (0x87 if zero >> 127 else 0)

    def encrypt(self, data: bytes, context: bytes) -> tuple[bytes, bytes]:
        """(nonce, ciphertext). Decryption needs the same `context`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce, self.encrypt_with(nonce, data, context)

    def encrypt_with(self, nonce: bytes, data: bytes, context: bytes) -> bytes:
        ciphertext: bytes = self._gcm(self._message_key(nonce)).encrypt(nonce[12:], data, context)
        return ciphertext

    def decrypt(self, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes | None:
        """The data, or `None` when `ciphertext` was not encrypted with this key and context."""
        if len(nonce) != NONCE_BYTES:
            return None
        try:
            data: bytes = self._gcm(self._message_key(nonce)).decrypt(nonce[12:], ciphertext, context)
        except self._invalid:
            return None
        return data

    def _message_key(self, nonce: bytes) -> bytes:
        blocks = b"".join(
            (int.from_bytes(counter + nonce[:12], "big") ^ self._subkey).to_bytes(16, "big")
            for counter in (b"\0\1X\0", b"\0\2X\0")
        )
        return self._block.encryptor().update(blocks)
