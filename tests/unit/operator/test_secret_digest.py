"""The digest of a secret in the pods' hash: it changes with the value, and tells a reader of the Deployment nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from taskfleet_operator.children.secret_digest import digest_of, operator_key


def token(tmp_path: Path, claims: object) -> Path:
    encoded = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    path = tmp_path / "token"
    path.write_text(f"header.{encoded}.signature")
    return path


def test_a_digest_stays_over_restarts_and_differs_by_value_salt_and_key() -> None:
    one = digest_of(b"secret", "uid/password", b"operator")
    assert one == digest_of(b"secret", "uid/password", b"operator")
    others = [
        digest_of(b"Secret", "uid/password", b"operator"),
        digest_of(b"secret", "uid/url", b"operator"),
        digest_of(b"secret", "uid/password", b"another operator"),
        digest_of(b"secret", "uid/password", b""),
    ]
    assert len({one, *others}) == 5


def test_the_key_is_the_uid_of_the_operators_service_account(tmp_path: Path) -> None:
    claims = {"kubernetes.io": {"namespace": "taskfleet", "serviceaccount": {"name": "operator", "uid": "9f3c"}}}
    assert operator_key(token(tmp_path, claims)) == b"9f3c"


@pytest.mark.parametrize("claims", [[], {}, {"kubernetes.io": None}, {"kubernetes.io": {"serviceaccount": {}}}])
def test_another_token_gives_no_key(tmp_path: Path, claims: object) -> None:
    assert operator_key(token(tmp_path, claims)) == b""


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c", "a.////.c", "a.ä.c"])
def test_what_is_no_token_gives_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    assert operator_key(path) == b""
    assert operator_key(tmp_path / "nothing") == b""
