"""Sealing: tasks, results and errors are compressed, signed or encrypted on their way into Redis.

    [2, how, key id, proof, body]

`how` is the sum of 1 (compressed), 2 (signed) and 4 (encrypted). The body is the plain envelope or record; compression
comes first. For a signed body, `proof` is the HMAC-SHA256. For an encrypted body, `proof` is the nonce, and the tag of
the cipher authenticates the body, so there is no separate signature. Both methods also cover the context: the kind of
record, its queue, the task's id, `how` and the key's id. A record that was sealed for one task is therefore refused
under another id, in another queue, or as another kind.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from taskfleet.errors import BadSignatureError, ConfigurationError, PayloadTooLargeError, SerializationError
from taskfleet.protocol import compression, envelope, unpacking
from taskfleet.protocol.envelope import SEALED, Envelope

if TYPE_CHECKING:
    from taskfleet.protocol.encryption import Cipher

Kind = Literal["task", "result", "error", "schedule"]
Policy = Literal["require", "write", "read"]

EXPANSION = 16  # the ratio of the largest record that is read to the largest that is stored

COMPRESSED, SIGNED, ENCRYPTED = 1, 2, 4
_KNOWN = (COMPRESSED, SIGNED, ENCRYPTED, COMPRESSED | SIGNED, COMPRESSED | ENCRYPTED)
_NAMES = {"task": "the payload", "result": "the result", "error": "the error record", "schedule": "its task"}


class Seal:
    """Seals the bytes that go into Redis and opens the bytes that come out.

    Args:
        signing_keys, encryption_keys: the first of each seals, all of them open. With both, new records are encrypted.
        compress: whether to compress records of `threshold_bytes` or more.
        max_expanded_bytes: the largest size of a record that is read, and of a compressed body after expansion.
        policy: `require` refuses records that no key authenticates. `write` accepts them. `read` accepts them too, and
            seals nothing itself.

    A seal has no state that changes, so threads and forks can share it.
    """

    def __init__(
        self,
        *,
        signing_keys: Sequence[bytes] = (),
        encryption_keys: Sequence[bytes] = (),
        compress: bool = False,
        threshold_bytes: int = 1024,
        max_expanded_bytes: int = EXPANSION * 1_048_576,
        policy: Policy = "require",
    ) -> None:
        self._signing = _by_id(signing_keys, "signing_keys")
        self._encryption = _ciphers(_by_id(encryption_keys, "encryption_keys"))
        if compress:
            compression.check()
        self._compress = compress
        self._threshold = threshold_bytes
        self.expanded_limit = max_expanded_bytes
        self.limit = max_expanded_bytes // EXPANSION  # longer records are unpacked within bounds
        self._signs_with = next(iter(self._signing.items()), None)
        self._encrypts_with = next(iter(self._encryption.items()), None)
        has_keys = bool(self._signing or self._encryption)
        self.configured = has_keys or compress
        self.requires = has_keys and policy == "require"
        self.writes = self.configured and policy != "read"

    def __repr__(self) -> str:
        keys = [key_id.hex() for key_id in (*self._signing, *self._encryption)]
        return f"Seal(keys={keys}, compress={self._compress}, requires={self.requires}, writes={self.writes})"

    def close(self, kind: Kind, queue: str, task_id: str, data: bytes) -> bytes:
        """The sealed form of `data`, as it is stored.

        Errors: `PayloadTooLargeError` for data that compresses so well that no reader would unpack it again.
        """
        if not self.writes:
            return data
        how, body = 0, data
        # No reader would unpack more than the limit. Such data stays uncompressed, so that the check of its size
        # refuses it.
        if self._compress and self._threshold <= len(data) <= self.expanded_limit:
            smaller = compression.compress(data)
            if len(smaller) < len(data):
                how, body = COMPRESSED, smaller
                self._check_expanded(kind, data)
        if self._encrypts_with is not None:
            key_id, cipher = self._encrypts_with
            how |= ENCRYPTED
            proof, body = cipher.encrypt(body, _context(kind, queue, task_id, how, key_id))
        elif self._signs_with is not None:
            key_id, key = self._signs_with
            how |= SIGNED
            proof = hmac.digest(key, _context(kind, queue, task_id, how, key_id) + body, "sha256")
        elif how:
            key_id = proof = b""
        else:
            return data
        return envelope.pack([SEALED, how, key_id, proof, body])

    def open(self, kind: Kind, queue: str, task_id: str, data: bytes) -> bytes:
        """The bytes that were given to `close`.

        Errors: `BadSignatureError`, `NewerVersionError`, or `SerializationError` for data that is damaged, too long, or
        needs a package that is not installed. The content is not parsed before a key has authenticated it.
        """
        if len(data) > self.expanded_limit:
            raise SerializationError(
                f"{_NAMES[kind]} has {len(data)} bytes; at most {self.expanded_limit} are read here: raise "
                "max_payload_bytes and max_result_bytes"
            )
        version = envelope.version_of(data)
        if newer := envelope.newer_version(data, _NAMES[kind]):
            raise newer
        if version != SEALED:
            if self.requires:
                raise _unsigned(kind)
            return data
        how, key_id, proof, body = self._parts(kind, data)
        if how & ENCRYPTED:
            body = self._decrypted(kind, queue, task_id, (how, key_id, proof, body))
        elif how & SIGNED:
            self._verify(kind, queue, task_id, (how, key_id, proof, body))
        elif self.requires:
            raise _unsigned(kind)
        if how & COMPRESSED:
            try:
                body = compression.expand(body, self.expanded_limit)
            except SerializationError as error:
                raise SerializationError(f"{_NAMES[kind]} cannot be unpacked: {error}") from None
        return body

    def open_task(self, queue: str, task_id: str, blob: bytes) -> Envelope:
        """The task in a stamped blob; errors as for `open` and `envelope.decode`."""
        try:
            return envelope.decode(self.open_blob(queue, task_id, blob), self.limit)
        except envelope.SealedError:
            raise SerializationError("the payload is not a task envelope: it is sealed twice") from None

    def _check_expanded(self, kind: Kind, data: bytes) -> None:
        """Refuse to write data that a reader could not unpack in its uncompressed form."""
        if len(data) > self.limit and kind != "error":
            try:
                envelope.unpack(data, self.limit)
            except unpacking.TooMuchError as error:
                raise PayloadTooLargeError(
                    f"{_NAMES[kind]} has {len(data)} bytes before it is compressed, and {error}; store it elsewhere "
                    "and pass its address, or raise max_payload_bytes and max_result_bytes"
                ) from None
            except SerializationError:
                pass  # other problems of the data are not reported here

    def open_blob(self, queue: str, task_id: str, blob: bytes) -> bytes:
        """A stamped blob with its envelope opened; errors as for `open`."""
        stamp, data = blob[: envelope.STAMP_BYTES], blob[envelope.STAMP_BYTES :]
        return stamp + self.open("task", queue, task_id, data)

    def _parts(self, kind: Kind, data: bytes) -> tuple[int, bytes, bytes, bytes]:
        # Read by position and without unpacking, since no key has authenticated the data yet.
        try:
            count, at = unpacking.list_head(data)
            how = data[at + 1] if len(data) > at + 1 else -1
            key_id, at = unpacking.binary(data, at + 2)
            proof, at = unpacking.binary(data, at)
            body, at = unpacking.binary(data, at)
            # Newer versions add their elements at the end.
            if how in _KNOWN and (at == len(data) if count == 5 else count > 5 and unpacking.is_whole(data)):
                return how, key_id, proof, body
            problem = "it is not a seal"
        except SerializationError as error:
            problem = str(error)
        refusal = BadSignatureError if self.requires else SerializationError
        raise refusal(f"{_NAMES[kind]} has envelope version {SEALED}, sealed, and cannot be opened: {problem}")

    def _verify(self, kind: Kind, queue: str, task_id: str, parts: tuple[int, bytes, bytes, bytes]) -> None:
        how, key_id, proof, body = parts
        key = self._signing.get(key_id)
        if key is None:
            # A reader that accepts unsigned records can accept this one as well.
            if self.requires:
                raise BadSignatureError(
                    f"{_NAMES[kind]} is signed with key {key_id[:8].hex()}, which is not among the signing_keys here"
                )
            return
        if not hmac.compare_digest(
            proof, hmac.digest(key, _context(kind, queue, task_id, how, key_id) + body, "sha256")
        ):
            raise BadSignatureError(f"{_NAMES[kind]} has a wrong signature: it was changed, or belongs elsewhere")

    def _decrypted(self, kind: Kind, queue: str, task_id: str, parts: tuple[int, bytes, bytes, bytes]) -> bytes:
        how, key_id, proof, body = parts
        cipher = self._encryption.get(key_id)
        if cipher is None:
            refusal = BadSignatureError if self.requires else SerializationError
            raise refusal(
                f"{_NAMES[kind]} is encrypted with key {key_id[:8].hex()}, which is not among the encryption_keys here"
            )
        data = cipher.decrypt(proof, body, _context(kind, queue, task_id, how, key_id))
        if data is None:
            raise BadSignatureError(f"{_NAMES[kind]} cannot be decrypted: it was changed, or belongs elsewhere")
        return data


def _unsigned(kind: Kind) -> BadSignatureError:
    return BadSignatureError(f"{_NAMES[kind]} is not signed: whoever writes it needs the keys that are asked for here")


def key_id_of(key: bytes) -> bytes:
    """The id of a key in an envelope: the first four bytes of its hash, so that keys need no names."""
    return hashlib.sha256(b"taskfleet key id\0" + key).digest()[:4]


def _by_id(keys: Sequence[bytes], option: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for key in keys:
        if found.setdefault(key_id_of(key), key) != key:
            raise ConfigurationError(f"{option}: two keys have the id {key_id_of(key).hex()}; make one of them anew")
    return found


def _ciphers(keys: dict[bytes, bytes]) -> dict[bytes, Cipher]:
    if not keys:
        return {}
    from taskfleet.protocol.encryption import Cipher  # only here: most applications encrypt nothing

    return {key_id: Cipher(key) for key_id, key in keys.items()}


def _context(kind: Kind, queue: str, task_id: str, how: int, key_id: bytes) -> bytes:
    # A messagepack list keeps two contexts apart, whatever the names contain.
    return envelope.pack([SEALED, kind, queue, task_id, how, key_id])


PLAIN = Seal()  # seals nothing, and opens records that need no key
