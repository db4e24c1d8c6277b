"""A server that repeats what it was sent: no error has a password in it, in a status, a log or an Event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskfleet.errors import TaskQueueError
from taskfleet.redis import replies
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.credentials import FileCredentials
from tests.support.hostile_redis import HostileRedis

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
PASSWORD = "hunter2-hunter2"
REPEATED = f"'AUTH' 'worker' '{PASSWORD}'"
ECHO = ", with args beginning with: "
ANSWERS: dict[str, dict[bytes, bytes | str]] = {
    "a server that knows no HELLO": {b"HELLO": f"-ERR unknown command 'HELLO'{ECHO}'3' {REPEATED} "},
    "one that cuts what it repeats": {b"HELLO": f"-ERR unknown command `HELLO`{ECHO}`{PASSWORD[:9]}"},
    "a wrong password": {b"HELLO": f"-WRONGPASS {PASSWORD} is not the password of worker"},
    "no permission": {b"HELLO": f"-NOPERM {REPEATED}"},
    "a server that is loading": {b"HELLO": f"-LOADING {REPEATED}"},
    "an error later": {b"HELLO": HELLO, b"SMEMBERS": f"-ERR who says {PASSWORD}?"},
    "a script": {b"HELLO": HELLO, b"SMEMBERS": b"*0", b"ZRANGE": b"*0", b"EVALSHA": f"-ERR {REPEATED}"},
    "a code without a text": {b"HELLO": f"-ERR{PASSWORD} x"},
}  # fmt: skip


async def error_of(url: str, **login: Any) -> str:
    broker = RedisBroker.from_url(url, **{"connect_timeout": 1.0, "command_timeout": 0.3} | login)
    try:
        found = await broker.figures({"orders": (1000, 1000)})
    except TaskQueueError as error:
        return str(error)
    finally:
        await broker.close()
    return "; ".join(map(str, found.failures.values()))


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("where", ["options", "url", "file"])
async def test_no_error_has_the_password(case: str, where: str, tmp_path: Path) -> None:
    answers = {name: one if isinstance(one, bytes) else one.encode() for name, one in ANSWERS[case].items()}
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    async with HostileRedis({name: one if one == HELLO else one + b"\r\n" for name, one in answers.items()}) as server:
        logins: dict[str, dict[str, Any]] = {
            "options": {"login": {"username": "worker", "password": PASSWORD}},
            "url": {},
            "file": {"login": {"credential_provider": FileCredentials("worker", file, "redis.password_file")}},
        }
        url = server.url.replace("//", f"//worker:{PASSWORD}@") if where == "url" else server.url
        said = await error_of(url, **logins[where])
    assert "Redis at 127.0.0.1" in said
    assert PASSWORD[:9] not in said


async def test_nor_the_password_of_the_sentinels() -> None:
    async with HostileRedis({b"HELLO": f"-ERR unknown command, {REPEATED}\r\n".encode()}) as server:
        address = server.url.removeprefix("redis://").removesuffix("/0")
        url = f"redis+sentinel://{address}/main/0"
        patient = {"connect_timeout": 60.0, "command_timeout": 60.0}  # it is what the server says that is looked for
        said = await error_of(url, sentinel_login={"password": PASSWORD}, **patient)
    assert "unknown command" in said
    assert PASSWORD not in said


async def test_a_password_before_its_rotation_is_one_too(tmp_path: Path) -> None:
    file = tmp_path / "password"
    provider = FileCredentials(None, file, "redis.password_file")
    for password in ("the-first", "the-second", "the-third"):
        file.write_text(password)
        provider.get_credentials()
        provider.get_credentials()
    assert provider.given == ("the-second", "the-third")


@pytest.mark.parametrize(
    ("text", "secret", "left"),
    [
        ("ERR no a here, but 'a'", "a", "ERR no (not shown) here, but '(not shown)'"),
        ("ERR an apple", "a", "ERR an apple"),
        ("NOPERM abcdefgh", "abcdef", "NOPERM (not shown)gh"),
        ("NOPERM NOPERM", "NOPERM", "NOPERM (not shown)"),
        ("ERR a.c abc", "a.c", "ERR (not shown) abc"),
        ("ERR nothing", "", "ERR nothing"),
        ("LOADING", "LOADING", "LOADING"),
    ],
)
def test_the_code_of_an_error_stays(text: str, secret: str, left: str) -> None:
    assert replies.without_secrets(text, [secret]) == left


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    assert replies.without_secrets("ERR hunter2-long hunter2", ["hunter2", "hunter2-long"]) == (
        "ERR (not shown) (not shown)"
    )
