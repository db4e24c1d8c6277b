"""Payloads that a seal accepts and payloads that it refuses."""

from __future__ import annotations

import itertools
import struct
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet import BadSignatureError, ConfigurationError, NewerVersionError, SerializationError
from taskfleet.protocol import compression, envelope, sealing
from taskfleet.protocol.encryption import Cipher
from taskfleet.protocol.sealing import Kind, Policy, Seal

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
PLAIN_TASK = envelope.encode("send_email", ["a@b.c"], {"subject": "hi"}, {"r": 3})
STAMP = struct.pack(">d", 12.5)

kinds = st.sampled_from(["task", "result", "error"])
SEALS = {
    "signing": Seal(signing_keys=[OLD]),
    "encrypting": Seal(encryption_keys=[OLD]),
    "compressing": Seal(compress=True, threshold_bytes=0),
    "signing and compressing": Seal(signing_keys=[OLD], compress=True, threshold_bytes=0),
    "encrypting and compressing": Seal(encryption_keys=[OLD], compress=True, threshold_bytes=0),
    "doing nothing": Seal(),
}
KEYED = {name: seal for name, seal in SEALS.items() if seal.requires}


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)
@settings(max_examples=50)
@given(kind=kinds, queue=st.text(), task_id=st.text(), data=st.binary() | st.text().map(str.encode))
def test_a_sealed_record_can_be_opened(seal: Seal, kind: Kind, queue: str, task_id: str, data: bytes) -> None:
    record = envelope.pack(["succeeded", data])
    assert seal.open(kind, queue, task_id, seal.close(kind, queue, task_id, record)) == record


def test_a_seal_without_keys_and_compression_changes_no_byte() -> None:
    assert Seal().close("task", "q", "id", PLAIN_TASK) is PLAIN_TASK


@pytest.mark.parametrize("seal", KEYED.values(), ids=KEYED)
@pytest.mark.parametrize(
    ("kind", "queue", "task_id"),
    [
        ("task", "q", "another"),
        ("task", "another", "id"),
        ("result", "q", "id"),
        ("error", "q", "id"),
        ("task", "qi", "d"),
    ],
)
def test_a_copy_elsewhere_is_refused(seal: Seal, kind: Kind, queue: str, task_id: str) -> None:
    closed = seal.close("task", "q", "id", PLAIN_TASK)
    with pytest.raises(BadSignatureError, match="belongs elsewhere"):
        seal.open(kind, queue, task_id, closed)


@pytest.mark.parametrize("seal", KEYED.values(), ids=KEYED)
@settings(max_examples=200)
@given(data=st.data())
def test_no_bit_can_be_changed(seal: Seal, data: st.DataObject) -> None:
    closed = bytearray(seal.close("task", "q", "id", PLAIN_TASK * 3))
    position = data.draw(st.integers(0, len(closed) * 8 - 1))
    closed[position // 8] ^= 1 << position % 8
    try:
        opened = seal.open("task", "q", "id", bytes(closed))
    except NewerVersionError:
        # Another version number: the task goes to a newer worker, which has its own rules. It does not run here.
        return
    except BadSignatureError:
        return
    pytest.fail(f"bit {position} changed and {opened!r} came out")


@pytest.mark.parametrize("seal", KEYED.values(), ids=KEYED)
def test_how_a_body_is_to_be_read_cannot_be_changed(seal: Seal) -> None:
    version, how, *rest = msgpack.unpackb(seal.close("task", "q", "id", PLAIN_TASK * 3))
    for other in {0, 1, 2, 3, 4, 5, 6, 7, 8, None} - {how}:
        with pytest.raises(BadSignatureError):
            seal.open("task", "q", "id", msgpack.packb([version, other, *rest]))


@pytest.mark.parametrize("seal", KEYED.values(), ids=KEYED)
@settings(max_examples=200)
@given(blob=st.binary(max_size=300) | st.lists(st.binary() | st.integers(0, 9), max_size=7).map(msgpack.packb))
def test_nothing_that_no_key_vouches_for_comes_out(seal: Seal, blob: bytes) -> None:
    with pytest.raises((BadSignatureError, NewerVersionError)):
        seal.open("task", "q", "id", blob)
    with pytest.raises((BadSignatureError, NewerVersionError)):
        seal.open_task("q", "id", STAMP + blob)


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)
@settings(max_examples=200)
@given(rest=st.lists(st.binary() | st.integers(0, 9) | st.just(OLD), max_size=7), wild=st.binary(max_size=100))
def test_damaged_seals_are_an_error_and_nothing_worse(seal: Seal, rest: list[Any], wild: bytes) -> None:
    for blob in (msgpack.packb([2, *rest]), b"\x95\x02" + wild, wild):
        try:
            seal.open_task("q", "id", STAMP + blob)
        except SerializationError:
            continue


def test_plain_payloads_are_refused_by_who_has_keys() -> None:
    with pytest.raises(BadSignatureError, match="the payload is not signed: whoever writes it needs the keys"):
        Seal(signing_keys=[OLD]).open("task", "q", "id", PLAIN_TASK)
    with pytest.raises(BadSignatureError, match="not signed"):
        Seal(encryption_keys=[OLD]).open("result", "q", "id", PLAIN_TASK)
    compressed = SEALS["compressing"].close("task", "q", "id", bytes(1000))
    with pytest.raises(BadSignatureError, match="not signed"):
        Seal(signing_keys=[OLD]).open("task", "q", "id", compressed)


def test_another_key_is_named_by_its_id() -> None:
    closed = Seal(signing_keys=[OTHER]).close("task", "q", "id", PLAIN_TASK)
    with pytest.raises(
        BadSignatureError, match=f"signed with key {sealing.key_id_of(OTHER).hex()}, which is not among"
    ):
        Seal(signing_keys=[OLD]).open("task", "q", "id", closed)
    closed = Seal(encryption_keys=[OTHER]).close("task", "q", "id", PLAIN_TASK)
    with pytest.raises(BadSignatureError, match=f"encrypted with key {sealing.key_id_of(OTHER).hex()}"):
        Seal(encryption_keys=[OLD]).open("task", "q", "id", closed)
    with pytest.raises(SerializationError, match="encrypted with key") as caught:
        Seal().open("task", "q", "id", closed)
    assert not isinstance(caught.value, BadSignatureError)


@pytest.mark.parametrize("option", ["signing_keys", "encryption_keys"])
def test_keys_rotate_without_a_moment_in_which_something_is_refused(option: str) -> None:
    only_old, both_old_first, both_new_first, only_new = (
        Seal(**{option: keys})
        for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW])  # type: ignore[arg-type]
    )
    # During the rollout of a step, its processes and those of the step before share one Redis.
    for one, other in itertools.pairwise([only_old, both_old_first, both_new_first, only_new]):
        for writer, reader in ((one, other), (other, one)):
            assert reader.open("task", "q", "i", writer.close("task", "q", "i", PLAIN_TASK)) == PLAIN_TASK
    with pytest.raises(BadSignatureError):
        only_new.open("task", "q", "i", only_old.close("task", "q", "i", PLAIN_TASK))


@pytest.mark.parametrize(
    "keys", [{"signing_keys": [OLD]}, {"encryption_keys": [OLD]}, {"compress": True, "threshold_bytes": 0}]
)
def test_sealing_is_introduced_without_a_moment_in_which_something_is_refused(keys: dict[str, Any]) -> None:
    def with_policy(policy: Policy) -> Seal:
        return Seal(**keys, policy=policy)

    steps = [Seal(), with_policy("read"), with_policy("write"), with_policy("require")]
    for one, other in itertools.pairwise(steps):
        for writer, reader in ((one, one), (one, other), (other, one), (other, other)):
            assert reader.open("task", "q", "i", writer.close("task", "q", "i", PLAIN_TASK)) == PLAIN_TASK
    assert with_policy("read").close("task", "q", "i", PLAIN_TASK) is PLAIN_TASK


def test_a_wrong_signature_is_refused_under_every_policy() -> None:
    forged = Seal(signing_keys=[OLD]).close("task", "q", "another", PLAIN_TASK)
    for policy in ("read", "write", "require"):
        with pytest.raises(BadSignatureError):
            Seal(signing_keys=[OLD], policy=policy).open("task", "q", "id", forged)  # type: ignore[arg-type]


def test_signed_payloads_are_accepted_where_new_ones_are_encrypted() -> None:
    both = Seal(signing_keys=[OLD], encryption_keys=[NEW])
    assert both.open("task", "q", "id", Seal(signing_keys=[OLD]).close("task", "q", "id", PLAIN_TASK)) == PLAIN_TASK
    closed = both.close("task", "q", "id", PLAIN_TASK)
    assert b"send_email" not in closed
    assert Seal(encryption_keys=[NEW]).open("task", "q", "id", closed) == PLAIN_TASK


def test_elements_of_a_later_version_behind_a_seal_are_ignored() -> None:
    seal = SEALS["signing"]
    parts = msgpack.unpackb(seal.close("task", "q", "id", PLAIN_TASK))
    assert seal.open("task", "q", "id", msgpack.packb([*parts, {"more": 1}])) == PLAIN_TASK


def test_a_sealed_task_of_a_newer_version_inside_is_told_apart() -> None:
    seal = SEALS["signing"]
    closed = seal.close("task", "q", "id", envelope.pack([9, "x"]))
    with pytest.raises(NewerVersionError):
        seal.open_task("q", "id", STAMP + closed)
    twice = seal.close("task", "q", "id", seal.close("task", "q", "id", PLAIN_TASK))
    with pytest.raises(SerializationError, match="sealed twice"):
        seal.open_task("q", "id", STAMP + twice)


# The cipher.


def test_the_cipher_is_xaes_256_gcm() -> None:
    # The vectors of the specification (C2SP).
    nonce, text = b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM"
    assert Cipher(b"\1" * 32).encrypt_with(nonce, text, b"").hex() == (
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    )
    assert Cipher(b"\3" * 32).encrypt_with(nonce, text, b"c2sp.org/XAES-256-GCM").hex() == (
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
    )


def test_no_two_ciphertexts_are_the_same() -> None:
    seal = SEALS["encrypting"]
    assert len({seal.close("task", "q", "id", PLAIN_TASK) for _ in range(100)}) == 100


# Compression.


@given(st.binary(max_size=5000))
def test_compressed_data_is_expanded(data: bytes) -> None:
    assert compression.expand(compression.compress(data), len(data)) == data


@pytest.mark.parametrize("named", [True, False])
def test_a_bomb_is_not_unpacked(named: bool) -> None:
    bomb = compression.compress(bytes(50_000_000)) if named else _stream(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(SerializationError, match="50000000 bytes" if named else "more than 1000000 bytes"):
        compression.expand(bomb, 1_000_000)
    assert peak_bytes(lambda: compression.expand(bomb, 1_000_000)) < 5_000_000
    assert len(compression.expand(bomb, 50_000_000)) == 50_000_000


def peak_bytes(refused: Callable[[], object]) -> int:
    """The peak of memory while the seal refuses `refused`."""
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _stream(data: bytes, **options: int) -> bytes:
    """A frame that does not state its unpacked size."""
    zstd = compression._load()
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter[name]: n for name, n in options.items()} or None)
    return b"".join([*(packer.compress(data[i : i + 65536]) for i in range(0, len(data), 65536)), packer.flush()])


def test_a_frame_that_asks_for_a_giant_window_is_refused() -> None:
    frame = _stream(b"x" * 100_000, window_log=27)
    with pytest.raises(SerializationError, match="damaged"):
        compression.expand(frame, 1_000_000)


@given(st.binary(max_size=100), st.integers(0, 200))
def test_a_damaged_frame_is_an_error_and_nothing_worse(rubbish: bytes, cut: int) -> None:
    frame = compression.compress(b"some text " * 20)
    for damaged in (rubbish, frame[: min(cut, len(frame) - 1)], frame + b"x" + rubbish, frame[:6] + rubbish):
        try:
            assert len(compression.expand(damaged, 1000)) <= 1000
        except SerializationError:
            continue
    for damaged in (frame[:-1], frame + b"x", frame + frame):
        with pytest.raises(SerializationError, match="damaged"):
            compression.expand(damaged, 1000)


def test_only_data_that_gets_smaller_is_stored_compressed() -> None:
    seal = Seal(compress=True, threshold_bytes=100)
    small, large, dense = b"x" * 99, b"x" * 100, bytes(range(256))
    assert seal.close("task", "q", "id", small) is small
    assert len(seal.close("task", "q", "id", large)) < 40
    assert seal.close("task", "q", "id", dense) is dense


def test_data_that_would_be_refused_as_a_bomb_is_not_compressed() -> None:
    seal = Seal(compress=True, max_expanded_bytes=5000)
    assert len(seal.close("task", "q", "id", bytes(5001))) == 5001
    whole = envelope.pack(bytes(4997))
    assert len(whole) == 5000
    assert len(seal.close("task", "q", "id", whole)) < 100


def test_without_the_package_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = SEALS["compressing"].close("task", "q", "id", bytes(1000))
    monkeypatch.setattr(compression, "_zstd", None)
    monkeypatch.setitem(sys.modules, compression._MODULE, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'taskfleet\[zstd\]'"):
        Seal(compress=True)
    with pytest.raises(SerializationError, match=r"the payload cannot be unpacked: .* pip install 'taskfleet\[zstd\]'"):
        Seal().open("task", "q", "id", closed)


def test_without_cryptography_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'taskfleet\[crypto\]'"):
        Seal(encryption_keys=[OLD])
