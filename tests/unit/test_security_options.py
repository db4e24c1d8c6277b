"""Keys and options of sealing, from code, environment and files."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from taskfleet import ConfigurationError, TaskQueue, config
from taskfleet.protocol import sealing
from taskfleet.settings import SecuritySettings, Settings

KEY = b"k" * 32
TEXT = base64.b64encode(b"\xfb\xff" * 16).decode()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def signed_by(queue: TaskQueue) -> str:
    """The id of the key that signs."""
    assert queue.application.seal._signs_with is not None
    return queue.application.seal._signs_with[0].hex()


def test_without_keys_nothing_is_sealed() -> None:
    queue = TaskQueue()
    assert not queue.application.seal.writes
    assert not queue.application.seal.requires


def test_keys_come_from_a_mounted_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = elsewhere / "keys"
    path.write_text("# the new one\nnew-new-new-new-new-new\n\n  old-old-old-old-old-old  \n")
    monkeypatch.setenv("TASKFLEET_SECURITY__SIGNING_KEYS_FILE", str(path))
    queue = TaskQueue.from_config()
    assert signed_by(queue) == sealing.key_id_of(b"new-new-new-new-new-new").hex()
    assert len(queue.application.seal._signing) == 2
    assert queue.application.seal.requires


def test_keys_come_from_a_variable_and_from_the_settings_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "task-queue.toml").write_text(
        f'[security]\nencryption_keys = ["{TEXT}"]\ncompression = "zstd"\nsealing = "write"\n'
    )
    monkeypatch.setenv("TASKFLEET_SECURITY__SIGNING_KEYS", "first-first-first-first,second-second-second-second")
    settings = config.load()
    assert settings.security.signing_keys == ("first-first-first-first", "second-second-second-second")
    queue = TaskQueue.from_config()
    assert signed_by(queue) == sealing.key_id_of(b"first-first-first-first").hex()
    assert list(queue.application.seal._encryption) == [sealing.key_id_of(b"\xfb\xff" * 16)]
    assert (queue.application.seal.writes, queue.application.seal.requires, queue.application.seal._compress) == (
        True,
        False,
        True,
    )


def test_the_code_overrides_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_SECURITY__SIGNING_KEYS", "first-first-first-first")
    assert signed_by(TaskQueue.from_config(signing_keys=[KEY])) == sealing.key_id_of(KEY).hex()


def test_keys_are_never_printed() -> None:
    section = SecuritySettings(signing_keys=("very-secret",), encryption_keys=(TEXT,))
    queue = TaskQueue(settings=Settings(security=section), signing_keys=["very-secret-as-well"])
    for text in (repr(queue), repr(queue.settings), str(queue.settings), repr(queue.application.seal)):
        assert "secret" not in text
        assert TEXT not in text


@pytest.mark.parametrize("text", [TEXT, TEXT.rstrip("="), base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()])
def test_encryption_keys_are_base64_of_either_alphabet_or_bytes(text: str) -> None:
    expected = [sealing.key_id_of(b"\xfb\xff" * 16)]
    assert list(TaskQueue(encryption_keys=[text]).application.seal._encryption) == expected
    assert list(TaskQueue(encryption_keys=[b"\xfb\xff" * 16]).application.seal._encryption) == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"signing_keys": "secret"}, "signing_keys is one key; write a list"),
        ({"encryption_keys": KEY}, "encryption_keys is one key; write a list"),
        ({"signing_keys": [""]}, "signing_keys: key 0 is empty; make one with: openssl rand -base64 32"),
        ({"signing_keys": [b""]}, "signing_keys: key 0 is empty"),
        ({"signing_keys": ["s" * 32, " \n"]}, "signing_keys: key 1 is empty"),
        ({"signing_keys": [5]}, "signing_keys: key 0 is an int; expected bytes or text"),
        ({"signing_keys": {"a": KEY}}, "signing_keys is a dict; write a list of keys"),
        ({"signing_keys": []}, "signing_keys is set and holds no key; make one with: openssl rand -base64 32"),
        ({"encryption_keys": ()}, "encryption_keys is set and holds no key; make one with"),
        ({"encryption_keys": ["too short"]}, "encryption_keys: key 0 is not 32 bytes in base64; make one with"),
        ({"encryption_keys": [KEY, b"short"]}, "encryption_keys: key 1 is not 32 bytes"),
        ({"encryption_keys": ["Schlüssel"]}, "encryption_keys: key 0 is not 32 bytes"),
        ({"compression": "gzip"}, "compression='gzip' is not known; use 'zstd' or None"),
        ({"compression_threshold_bytes": -1}, "compression_threshold_bytes=-1 is negative"),
        ({"compression": ""}, "compression='' is not known; use 'zstd' or None"),
        ({"compression_threshold_bytes": 1.5}, "compression_threshold_bytes=1.5 must be a whole number"),
        ({"sealing": "maybe"}, "sealing='maybe' is not known; use one of require, write, read"),
        ({"sealing": "requires"}, "(did you mean 'require'?)"),
        ({"sealing": ""}, "sealing='' is not known"),
        ({"sealing": "require"}, "sealing='require' is set, and there is no key to require; set signing_keys or"),
    ],
)
def test_mistakes_name_the_option_and_no_key(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue(**options)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("", "there is no key in it"),
        ("# nothing\n\n", "there is no key in it"),
        (b"\xff", "cannot be read: it is not UTF-8"),
    ],
)
def test_a_bad_key_file_is_named(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes | None, problem: str
) -> None:
    path = elsewhere / "keys"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setenv("TASKFLEET_SECURITY__SIGNING_KEYS_FILE", str(path))
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue.from_config()
    assert f"security.signing_keys_file {path}: {problem}" in str(caught.value)


def test_a_key_that_can_be_guessed_is_warned_of_without_showing_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        TaskQueue(signing_keys=[b"pass"])
    assert "signing_keys: key 0 has only 4 bytes and can be guessed" in caplog.text
    assert "pass" not in caplog.text


def test_an_unknown_setting_is_named(elsewhere: Path) -> None:
    (elsewhere / "task-queue.toml").write_text("[security]\nsigning_key = 'x'\n")
    with pytest.raises(ConfigurationError, match=r"unknown key 'security\.signing_key'; expected one of"):
        config.load()


@pytest.mark.parametrize("option", ["SIGNING_KEYS", "ENCRYPTION_KEYS", "SIGNING_KEYS_FILE", "ENCRYPTION_KEYS_FILE"])
@pytest.mark.parametrize("text", ["", " , ", "\n"])
@pytest.mark.parametrize("make", [TaskQueue, TaskQueue.from_config, lambda: TaskQueue("redis://localhost:1/0")])
def test_a_variable_that_is_set_and_holds_no_key_is_an_error(
    monkeypatch: pytest.MonkeyPatch, option: str, text: str, make: Any
) -> None:
    monkeypatch.setenv(f"TASKFLEET_SECURITY__{option}", text)
    with pytest.raises(ConfigurationError, match=option.lower()) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[]", '[""]', '["good-good-good-good", " "]', '""', '" , "'])
def test_a_file_that_sets_no_key_is_an_error(elsewhere: Path, value: str) -> None:
    (elsewhere / "task-queue.toml").write_text(f"[security]\nsigning_keys = {value}\n")
    with pytest.raises(ConfigurationError, match=r"security\.signing_keys.*is set and holds an empty key"):
        TaskQueue.from_config()


def test_sealing_that_the_environment_requires_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_SECURITY__SEALING", "require")
    for make in (TaskQueue, TaskQueue.from_config):
        with pytest.raises(ConfigurationError, match="there is no key to require"):
            make()
    assert TaskQueue("memory://x", signing_keys=[KEY]).application.seal
    assert TaskQueue("memory://x", encryption_keys=[TEXT]).application.seal


@pytest.mark.parametrize("key", ["SIGNING_KEYS", "SIGNING_KEYS_FILE", "ENCRYPTION_KEYS", "SEALING"])
def test_a_variable_with_one_underscore_does_not_leave_a_queue_unsigned(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(f"TASKFLEET_SECURITY_{key}", "s" * 32)
    for make in (TaskQueue, TaskQueue.from_config):
        with pytest.raises(ConfigurationError) as caught:
            make()
        text = f"TASKFLEET_SECURITY_{key} is read by nobody; write TASKFLEET_SECURITY__{key}, with two underscores"
        assert str(caught.value) == text
