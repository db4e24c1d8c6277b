"""The digest of a secret value that goes into the pods' hash, which more people may read than the secret.

It is keyed and slow: keyed with something that a reader of the Deployment does not have, and slow for one who has it.
docs/decisions/0019-the-digest-of-a-secret.md has the reasons.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from pathlib import Path

_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_COST = 2**13  # 8 MiB and about 20 ms; once for each value and start of the operator
_KEPT = 8192


@functools.cache
def operator_key(token: Path = _TOKEN) -> bytes:
    """A key that stays over restarts: the uid of the operator's ServiceAccount, which its token names.

    The uid is random, and only who may read the operator's namespace can read it. Outside of a cluster it is empty.
    """
    try:
        claims = token.read_text(encoding="ascii").split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(found["kubernetes.io"]["serviceaccount"]["uid"]).encode()
    except (OSError, ValueError, LookupError, TypeError):
        return b""


def digest_of(value: bytes, salt: str, key: bytes | None = None) -> str:
    """The digest of a value; `salt` differs from object to object, such as the uid of the secret with the key's name.

    The first call for a value takes about 20 ms of a processor, without the interpreter's lock.
    """
    key = operator_key() if key is None else key
    return _slow(hmac.digest(key, value, "sha256"), salt)


@functools.lru_cache(maxsize=_KEPT)
def _slow(keyed: bytes, salt: str) -> str:
    """Of the keyed value, so that no secret stays in this cache."""
    return hashlib.scrypt(keyed, salt=salt.encode(), n=_COST, r=8, p=1, dklen=16).hex()
