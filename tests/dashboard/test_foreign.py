"""Hostile data: whatever is in Redis, every page answers, and what a task holds is text of JSON and nothing else."""

from __future__ import annotations

import json
import time
from typing import Any

import msgpack
import pytest

from taskfleet import TaskQueue
from taskfleet_dashboard.masking import MASK, Masks
from taskfleet_dashboard.text import json_text
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import MakeQueue, RunWorker, until

NASTY = "<script>alert(1)</script>\x1b[31m\u202e\ud800\x00'\"&"
PATHS = (
    "overview", "queues/default", "queues/default/history", "tasks", "tasks?state=ready", "tasks?q=script", "dead",
    "schedules", "workers", "keys", "audit", "session",
)  # fmt: skip


async def no_page_breaks(site: Site) -> None:
    for path in PATHS:
        response = await site.client.get(f"/api/{path}")
        assert response.status_code == 200, (path, response.text)
        assert response.headers["content-type"] == "application/json"
        response.json()


async def test_markup_and_escapes_in_every_field_stay_text(queue: TaskQueue, run_worker: RunWorker, site: Site) -> None:
    @queue.task(name="<img src=x onerror=alert(1)>", max_retries=0)
    async def fail(value: Any) -> None:
        raise ValueError(f"<b>{value}</b>\x1b[2J")

    text = NASTY.replace("\ud800", "")
    handle = await fail.options(limit_key=text.replace("\x00", ""), fair_key="</script>").enqueue({text: [text]})
    await run_worker(queue)

    async def dead() -> Any:
        return (await queue.queue_stats("default")).dead

    await until(dead, "the task is dead")
    found = await site.get(f"dead/{handle.id}")
    assert json.loads(found["args"]) == [{text: [text]}]
    assert "\x1b" not in found["error"]
    assert "\x1b" not in found["traceback"]
    assert found["task"] == "<img src=x onerror=alert(1)>"
    await no_page_breaks(site)
    raw = await site.client.get(f"/api/tasks/{handle.id}")
    assert raw.headers["x-content-type-options"] == "nosniff"


@pytest.mark.orphans("the test writes what no program of Taskfleet would")
async def test_foreign_records_in_redis_break_no_page(queue: TaskQueue, site: Site) -> None:
    @queue.task
    async def work(n: int) -> None: ...

    await work.enqueue(1)
    broker: Any = queue.broker
    redis, keys, fleet = broker.client.redis, broker.keys_of("default"), broker.fleet
    await redis.sadd(fleet.queues, b"\xff\xfe", b"../../etc", NASTY.encode("utf-8", "replace"), b"default/999999")
    await redis.rpush(keys.ready, b"\xff\xff", b"gone", NASTY.encode("utf-8", "replace"))
    await redis.hset(keys.task, b"gone", b"\x00" * 20)
    await redis.zadd(keys.dead, {b"\xffdead": 1, b"letter": 2, b"empty": 9e15, b"list": float("inf")})
    await redis.hset(keys.letter, b"letter", msgpack.packb([b"failed", b"x", -1, 1e300, b"", b"\xc1"]))
    await redis.hset(keys.letter, b"\xffdead", b"\xff" * 100)
    await redis.hset(keys.letter, b"list", msgpack.packb([[[[]]]] * 9))
    await redis.zadd(keys.delayed, {b"\xff": float("inf"), b"late": -1})
    await redis.zadd(keys.lease, {NASTY.encode("utf-8", "replace"): 1})
    await redis.hset(keys.schedules.specs, NASTY.encode("utf-8", "replace"), b"junk")
    await redis.hset(keys.schedules.specs, b"plain", b"\x93\x01\x02\x03")
    await redis.zadd(fleet.workers, {NASTY.encode("utf-8", "replace"): 1, b"w/1": 2})
    await redis.hset(
        fleet.worker("w/1"), mapping={"slots": "many", "busy": "-1", "queues": "\xff", "state": NASTY[:20]}
    )
    await redis.hset(keys.stat, mapping={"enqueued": "x", "finished": -5})
    await redis.set(fleet.scalers, "not a zset")
    await redis.set(fleet.latest, "not a hash")
    await redis.set(fleet.audit, "not a list", ex=60)
    audit = await site.client.get("/api/audit")
    assert (audit.status_code, "audit" in audit.json()["error"]) == (500, True)  # one line that names the key
    await redis.delete(fleet.audit)
    await no_page_breaks(site)
    stream = await site.stream("overview,queue:default,dead,workers,schedules")
    for topic in ("overview", "queue:default", "dead", "workers", "schedules"):
        await stream.event(topic)
    for task_id in ("gone", "letter", "list", "none"):
        for path in (f"tasks/{task_id}", f"tasks/{task_id}/graph", f"dead/{task_id}"):
            assert (await site.client.get(f"/api/{path}")).status_code in (200, 404), path


@pytest.mark.orphans("the test writes what no program of Taskfleet would")
async def test_a_queue_whose_keys_are_of_another_kind_is_unreadable_and_the_others_are_not(
    make_queue: MakeQueue, make_site: MakeSite
) -> None:
    queue = make_queue(queues=["good", "bad"])

    @queue.task(queue="good")
    async def work() -> None: ...

    await work.enqueue()
    broker: Any = queue.broker
    await broker.client.redis.sadd(broker.fleet.queues, "bad")
    await broker.client.redis.set(broker.keys_of("bad").ready, "no list")
    site = await make_site(queue)
    rows = {row["name"]: row for row in (await site.get("overview"))["queues"]["items"]}
    assert (rows["good"]["state"], rows["good"]["ready"]) == ("unserved", 1)
    assert rows["bad"]["state"] == "unreadable"
    assert "bad" in rows["bad"]["problem"]


@pytest.mark.orphans("the test writes what no program of Taskfleet would")
@pytest.mark.parametrize("broken", ["dead", "letter", "lease", "delayed", "slots", "fair", "held"])
async def test_a_damaged_queue_hides_nothing_of_the_others(
    make_queue: MakeQueue, make_site: MakeSite, run_worker: RunWorker, broken: str
) -> None:
    queue = make_queue(queues=["bad", "good"])

    @queue.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    good = [(await fail.options(queue="good").enqueue()).id for _ in range(3)]
    bad = [(await fail.options(queue="bad").enqueue()).id for _ in range(3)]
    worker = await run_worker(queue, queues=["bad", "good"])

    async def dead() -> bool:
        return (await queue.queue_stats("good")).dead + (await queue.queue_stats("bad")).dead == 6

    await until(dead, "all are dead")
    worker.drain()
    for name in ("good", "bad"):
        await queue.pause(name)
    await fail.options(queue="good", fair_key="customer").enqueue()
    await fail.options(queue="bad", fair_key="customer").enqueue()
    site = await make_site(queue)
    broker: Any = queue.broker
    keys = broker.keys_of("bad")
    if broken == "held":
        job = await site.job("discard", {"queue": "bad", "ids": bad[:1]})
        await broker.client.redis.delete(keys.held(job["job"]))
        await broker.client.redis.set(keys.held(job["job"]), "text of another program")
        assert (await site.get(f"jobs/{job['job']}"))["state"] == "done"
        return
    await broker.client.redis.delete(getattr(keys, broken))
    await broker.client.redis.set(getattr(keys, broken), "text of another program")
    problems: list[str] = []
    for path, asked in (
        ("tasks", {}), ("tasks", {"q": "fail"}), ("dead", {}), ("dead", {"q": "no"}), ("tasks", {"queue": "bad"}),
        ("keys", {}), ("queues/bad", {}),
    ):  # fmt: skip
        found = await site.get(path, **asked)
        problems += found["problems"]
        if path in ("tasks", "dead") and not asked.get("queue"):
            assert set(good) <= {row["id"] for row in found["items"]}, (path, asked)
        if path == "keys":
            assert "good" in {row["queue"] for row in found["fair_keys"]}
    assert problems
    assert all(keys.base in line and "\n" not in line for line in problems), problems
    for path in ("tasks", "dead"):
        assert not (await site.get(path, queue="good"))["problems"]
    assert {row["name"] for row in (await site.get("overview"))["queues"]["items"]} == {"bad", "good"}


async def test_masked_fields_are_hidden_at_any_depth_and_are_not_searched(
    make_queue: MakeQueue, run_worker: RunWorker, make_site: MakeSite
) -> None:
    queue = make_queue()

    @queue.task(max_retries=0)
    async def login(user: str, password: str, extra: dict[str, Any]) -> None:
        raise ValueError(f"cannot log in with password={password!r} and {{'Token': '{extra['token']}'}}")

    nested = {"token": "s3cr3t-1", "deep": [{"PASSWORD": "s3cr3t-2"}], "text": '{"token": "s3cr3t-3", "n": 1}'}
    handle = await login.enqueue("bob", "s3cr3t-0", nested)
    plain = make_queue()  # a dashboard that does not know the application
    knows, not_knows = (
        await make_site(queue, mask=("password", "token")),
        await make_site(plain, mask=("password", "token")),
    )
    found = await knows.get(f"tasks/{handle.id}")
    assert "s3cr3t" not in json.dumps(found)
    assert found["masked"] == ["password", "token"]
    assert json.loads(found["args"])[:2] == ["bob", MASK]
    shown = json.dumps(await not_knows.get(f"tasks/{handle.id}"))
    assert "s3cr3t-0" in shown  # by position, and nobody knows its name
    assert not any(f"s3cr3t-{n}" in shown for n in (1, 2, 3))
    await run_worker(queue)

    async def dead() -> Any:
        return (await queue.queue_stats("default")).dead

    await until(dead, "the task is dead")
    for path in (f"tasks/{handle.id}", f"dead/{handle.id}", "dead", "tasks", "overview"):
        assert "s3cr3t" not in json.dumps(await knows.get(path)), path
    assert (await knows.get("dead", q="s3cr3t"))["items"] == []
    assert (await knows.get("tasks", q="s3cr3t"))["items"] == []
    assert len((await knows.get("tasks", q="cannot log in"))["items"]) == 1
    assert (await knows.get("session"))["masked_fields"] == ["password", "token"]
    stream = await knows.stream("overview,dead")
    assert "s3cr3t" not in json.dumps([await stream.event("overview"), await stream.event("dead")])


def test_masks_take_names_of_fields_only() -> None:
    from taskfleet.errors import ConfigurationError

    for name in ("", "a b", "x" * 101, "a=b"):
        with pytest.raises(ConfigurationError, match="is no name of a field"):
            Masks([name])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=abc, user=bob", f"password={MASK}, user=bob"),
        ('{"password": "a\\"b", "n": 1}', f'{{"password": "{MASK}", "n": 1}}'),
        ("{'password': 'a b', 'n': 1}", f"{{'password': {MASK}, 'n': 1}}"),
        ("{'password': {'a': 's3cr3t'}, 'n': 1}", f"{{'password': {MASK}, 'n': 1}}"),
        ("password=['x', 's3cr3t'], n=1", f"password={MASK}, n=1"),
        ("password=b'x s3cr3t', n=1", f"password={MASK}, n=1"),
        ("Login(password=Secret(a='x', b='s3cr3t'), n=1)", f"Login(password={MASK}, n=1)"),
        ("password=<Secret s3cr3t>, n=1", f"password={MASK}, n=1"),
        ("Password: Bearer s3cr3t\nnext", f"Password: {MASK}\nnext"),
        ('sent {\\"password\\": \\"s3\\\\\\"cr3t\\", \\"n\\": 1}', f'sent {{\\"password\\": {MASK}, \\"n\\": 1}}'),
        ('in "password": "cut off s3cr3t', f'in "password": {MASK}'),
        ("password=['cut off', 's3cr3t", f"password={MASK}"),
        ("password => 's3cr3t' password -> s3cr3t", f"password => {MASK} password -> {MASK}"),
        ("[('password', 's3cr3t'), ('n', 1)]", f"[('password', {MASK}), ('n', 1)]"),
        ("mysql --password s3cr3t -h db", f"mysql --password {MASK} -h db"),
        ("['mysql', '--password', 's3cr3t']", f"['mysql', '--password', {MASK}]"),
        ("<password>s3cr3t</password>", f"<password>{MASK}</password>"),
        ("https://h/?password=s3&n=1", f"https://h/?password={MASK}&n=1"),
        ("password='a' 'b'.", f"password={MASK} 'b'."),
        ("password=ab,cd;ef", f"password={MASK}"),
        (
            "1 error for Login\nuser.password\n  Input is wrong [type=int, input_value='s3', input_type=str]",
            f"1 error for Login\nuser.password\n  Input is wrong [type=int, input_value={MASK}, input_type=str]",
        ),
        ('{"a": {"password": "s3cr3t"}, "a": 1}', f'{{"a": {{"password": {MASK}}}, "a": 1}}'),
        ("password > 3 and password != 4", "password > 3 and password != 4"),
        ("Password: hunter2\nnext", f"Password: {MASK}\nnext"),
        ("passwords=abc mypassword=abc", "passwords=abc mypassword=abc"),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_a_field_in_a_text_is_masked_where_it_is_named(text: str, shown: str) -> None:
    masks = Masks(["password"])
    assert masks._value(text, set(), 0) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({b"password": "s3cr3t"}, {b"password": MASK}), ({" Password ": 1}, {" Password ": MASK}),
        (b' {"password": "s3cr3t"}', f'{{"password": "{MASK}"}}'), (b"password=s3cr3t", f"password={MASK}"),
        (b"\xff\xfe", b"\xff\xfe"), ([["password", "s3cr3t"]], [["password", MASK]]),
        (["a", "--password", "s3cr3t"], ["a", "--password", MASK]),
        (["user", "password", "mail"], ["user", "password", "mail"]),
    ],
)  # fmt: skip
def test_a_field_is_masked_in_whatever_form_it_comes(value: Any, shown: Any) -> None:
    assert Masks(["password"])._value(value, set(), 0) == shown


async def test_arguments_are_masked_by_the_parameter_that_takes_them(
    make_queue: MakeQueue, make_site: MakeSite
) -> None:
    queue = make_queue()

    @queue.task
    async def work(user: str, *tokens: str, **secrets: str) -> None: ...

    handle = await work.enqueue("bob", "s3cr3t-1", "s3cr3t-2", any="s3cr3t-3")
    site = await make_site(queue, mask=("tokens", "secrets"))
    found = await site.get(f"tasks/{handle.id}")
    assert "s3cr3t" not in json.dumps(found)
    assert json.loads(found["args"]) == ["bob", MASK, MASK]
    assert found["masked"] == ["tokens", "secrets"]


@pytest.mark.parametrize(
    "text",
    [
        "password=a," * 6000, "password=(" + "\\'" * 30_000, "password=" + "([" * 30_000, "password\n" * 7000,
        "password:" + "\\" * 60_000, "password" + " " * 60_000, 'password="' * 7000, "password=a" + ")" * 60_000,
    ],
)  # fmt: skip
def test_a_text_that_was_made_to_be_slow_is_masked_at_once(text: str) -> None:
    began = time.process_time()
    Masks(["password"]).text(text)
    assert time.process_time() - began < 1


def test_what_is_too_deep_to_be_looked_at_is_masked() -> None:
    value: Any = {"password": "secret"}
    for _ in range(60):
        value = [value]
    assert "secret" not in json_text(Masks(["password"])._value(value, set(), 0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**80, str(2**80)), (float("inf"), '"inf"'), (b"\xff", '"_w=="'), ({1: "a"}, '{\n  "1": "a"\n}'),
        ("\ud800", '"\\ud800"'), (object, None), ({"a": {1, 2}}, None),
    ],
)  # fmt: skip
def test_every_value_is_json_text(value: Any, text: str | None) -> None:
    found = json_text(value)
    json.loads(found)
    found.encode()
    if text is not None:
        assert found == text


def test_a_value_that_is_very_large_is_cut_and_says_so() -> None:
    found = json_text(["x" * 1000] * 1000)
    assert len(found) < 270_000
    assert found.endswith("characters)")
