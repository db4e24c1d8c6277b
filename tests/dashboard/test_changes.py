"""Changes: what they do, that they are recorded, and that dead letters come back when a discard is undone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.task_record import Place
from taskfleet_dashboard.changing import jobs
from taskfleet_dashboard.reading import letters as reading_letters
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import RunWorker, until


@pytest.fixture
async def letters(queue: TaskQueue, run_worker: RunWorker) -> list[str]:
    """Five dead letters: three of `fail`, two of `refuse`."""

    @queue.task(max_retries=0)
    async def fail(n: int) -> None:
        raise ValueError(f"number {n}")

    @queue.task(max_retries=0)
    async def refuse(n: int) -> None:
        raise KeyError(f"key {n}")

    ids = [(await fail.enqueue(n)).id for n in range(3)] + [(await refuse.enqueue(n)).id for n in range(2)]
    worker = await run_worker(queue)

    async def dead() -> bool:
        return (await queue.queue_stats("default")).dead == 5

    await until(dead, "all are dead")
    worker.drain()
    return ids


async def dead_ids(site: Site, **match: Any) -> list[str]:
    return [row["id"] for row in (await site.get("dead", **match))["items"]]


async def outcomes(site: Site) -> list[tuple[str, str, str]]:
    return [(row["action"], row["subject"], row["outcome"]) for row in (await site.get("audit"))["items"]]


async def test_dead_letters_are_filtered_by_task_reason_text_and_time(site: Site, letters: list[str]) -> None:
    rows = (await site.get("dead"))["items"]
    assert sorted(row["id"] for row in rows) == sorted(letters)
    times = [row["died_at"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert await dead_ids(site, task="refuse", q="key 1") == [letters[4]]
    assert sorted(await dead_ids(site, task="fail")) == sorted(letters[:3])
    assert await dead_ids(site, reason="timeout") == []
    assert len(await dead_ids(site, reason="exception", queue="default")) == 5
    now = datetime.now(UTC)
    assert await dead_ids(site, since=(now + timedelta(hours=1)).isoformat()) == []
    assert len(await dead_ids(site, until=(now + timedelta(hours=1)).isoformat())) == 5
    middle = datetime.fromisoformat(rows[2]["died_at"])  # answers have no more digits than Redis has
    older, newer = await dead_ids(site, until=middle.isoformat()), await dead_ids(site, since=middle.isoformat())
    assert (set(older) | set(newer), set(older) & set(newer)) == (set(letters), set())
    assert rows[4]["id"] in older or times[4] == times[2]
    assert {rows[0]["id"], rows[2]["id"]} <= set(newer)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await site.get("dead", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [row["id"] for row in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [row["id"] for row in rows]
    assert (await site.refused("dead", cursor="x"))[0] == 422


def test_a_time_without_a_zone_is_one_of_utc_wherever_the_dashboard_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert reading_letters.milliseconds(datetime(2026, 1, 1)) == reading_letters.milliseconds(
            datetime(2026, 1, 1, tzinfo=UTC)
        )
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_one_many_and_all_matching_letters_are_requeued(queue: TaskQueue, site: Site, letters: list[str]) -> None:
    job = await site.job("requeue", {"queue": "default", "ids": [letters[0], "not-there"]})
    assert (job["state"], job["done"], job["stayed"], job["total"]) == ("done", 1, 1, 2)
    assert letters[0] not in await dead_ids(site)
    job = await site.job("requeue", {"match": {"task": "refuse"}})
    assert (job["state"], job["done"], job["total"], job["examined"]) == ("done", 2, 4, 4)
    assert sorted(await dead_ids(site)) == sorted(letters[1:3])
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.dead) == (3, 2)
    assert (await site.job("requeue", {"match": {}}))["done"] == 2
    told = await outcomes(site)
    assert told[0] == ("requeue", "dead letters of all queues", "done: 2 requeued")
    assert told[1] == ("requeue", "dead letters of all queues", "started")


async def test_a_discard_can_be_undone_and_the_letters_are_whole_again(
    queue: TaskQueue, site: Site, letters: list[str]
) -> None:
    before = [await site.get(f"dead/{each}") for each in letters]
    job = await site.job("discard", {"match": {"q": "number"}})
    assert (job["done"], job["undoable"], job["action"]) == (3, 3, "discard")
    until_then = datetime.fromisoformat(job["undo_until"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < until_then <= timedelta(minutes=10)
    assert sorted(await dead_ids(site)) == sorted(letters[3:])
    assert (await site.refused(f"dead/{letters[0]}"))[0] == 404
    undone = await site.post(f"jobs/{job['job']}/undo")
    assert (undone["state"], undone["undoable"]) == ("undone", 0)
    assert [await site.get(f"dead/{each}") for each in letters] == before
    assert (await site.post(f"jobs/{job['job']}/undo", status=409))["error"] == "the job is undone already"
    assert await queue.requeue_dead("default", letters) == 5
    assert (await outcomes(site))[:2] == [
        ("undo", f"job {job['job']}", "the job is undone already"),
        ("undo", f"job {job['job']}", "done: 3 brought back"),
    ]


async def test_a_letter_whose_task_is_back_already_is_not_brought_back_twice(
    queue: TaskQueue, site: Site, letters: list[str]
) -> None:
    job = await site.job("discard", {"queue": "default", "ids": letters[:2]})
    broker: Any = queue.broker
    keys = broker.keys_of("default")
    await broker.client.redis.hset(keys.letter, letters[0], b"another")
    await broker.client.redis.zadd(keys.dead, {letters[0]: 1})
    await site.post(f"jobs/{job['job']}/undo")
    assert await broker.client.redis.hget(keys.letter, letters[0]) == b"another"
    assert (await site.get(f"dead/{letters[1]}"))["task"] == "fail"


async def test_what_a_discard_holds_is_bounded_and_has_a_time_to_live(
    queue: TaskQueue, site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_HELD", 2)
    job = await site.job("discard", {"match": {}})
    assert (job["done"], job["undoable"]) == (5, 2)
    broker: Any = queue.broker
    held = broker.keys_of("default").held(job["job"])
    assert await broker.client.redis.llen(held) == 2
    assert 500_000 < await broker.client.redis.pttl(held) <= 600_000
    again = await site.job("discard", {"match": {}})
    assert (again["done"], again["undo_until"], again["undoable"]) == (0, None, 0)
    assert (await site.post(f"jobs/{again['job']}/undo", status=409))["error"].startswith("nothing of this job")
    await site.post(f"jobs/{job['job']}/undo")
    assert len(await dead_ids(site)) == 2


async def test_an_order_about_dead_letters_names_ids_or_a_match(site: Site) -> None:
    for order in ({}, {"ids": ["a"]}, {"queue": "default", "ids": ["a"], "match": {}}, {"match": {"colour": "red"}}):
        error = (await site.post("dead/discard", order, status=422))["error"]
        assert error.startswith(("the body: give either ids", "the body: ids need their queue", "match.colour: ")), (
            error
        )
    assert (await site.refused("jobs/none"))[1] == "there is no job none; jobs are kept for an hour"
    refused = await site.post("dead/discard", {"match": {"queue": "nowhere"}}, status=404)
    assert refused["error"] == "there is no queue 'nowhere'"


async def test_another_process_of_the_dashboard_tells_a_job_and_undoes_it(
    queue: TaskQueue, site: Site, make_site: MakeSite, letters: list[str]
) -> None:
    other = await make_site(queue)
    job = await site.job("discard", {"match": {}})
    assert await other.get(f"jobs/{job['job']}") == job
    await other.post(f"jobs/{job['job']}/undo")
    assert sorted(await dead_ids(site)) == sorted(letters)


async def test_a_job_whose_process_is_gone_has_stopped(queue: TaskQueue, site: Site) -> None:
    broker: Any = queue.broker
    lost = jobs.LetterJob("a1b2", "requeue", "alice", 1_000_000.0, done=7, beat=1_000_060.0)
    await broker.put_note("job:a1b2", lost.pack(), ttl_seconds=60)
    await broker.put_note("job:a1b3", b'{"what": "is this"}', ttl_seconds=60)
    found = await site.get("jobs/a1b2")
    assert (found["state"], found["error"], found["done"]) == ("failed", "the dashboard that ran it has ended", 7)
    status, line = await site.refused("jobs/a1b3")
    assert (status, line.startswith("job a1b3 cannot be read")) == (404, True)


async def test_queues_are_paused_resumed_and_purged_with_their_name_once_more(queue: TaskQueue, site: Site) -> None:
    @queue.task
    async def work() -> None: ...

    for _ in range(3):
        await work.enqueue()
    assert (await site.post("queues/default/pause"))["changed"]
    assert (await queue.queue_stats("default")).paused
    await site.post("queues/default/resume")
    assert not (await queue.queue_stats("default")).paused
    refused = await site.post("queues/default/purge", {"confirm": "other"}, status=422)
    assert "nothing was deleted" in refused["error"]
    assert (await queue.queue_stats("default")).ready == 3
    assert (await site.post("queues/default/purge", {"confirm": "default"}))["count"] == 3
    assert (await site.post("queues/defualt/pause", status=404))["error"] == "there is no queue 'defualt'"
    assert await outcomes(site) == [
        ("pause", "queue defualt", "there is no queue 'defualt'"),
        ("purge", "queue default", "done: 3 deleted"),
        ("purge", "queue default", "confirm is not the name of the queue; nothing was deleted"),
        ("resume", "queue default", "done"),
        ("pause", "queue default", "done"),
    ]


async def test_a_task_is_cancelled_and_a_dead_one_retried(queue: TaskQueue, site: Site, letters: list[str]) -> None:
    @queue.task
    async def work() -> None: ...

    handle = await work.enqueue()
    assert (await site.post(f"tasks/{handle.id}/cancel"))["changed"]
    assert (await handle.status()) == "cancelled"
    again = await site.post(f"tasks/{handle.id}/cancel")
    assert (again["changed"], again["detail"]) == (False, "it has ended already, or is being cancelled")
    assert (await site.post(f"tasks/{letters[0]}/retry"))["changed"]
    refused = await site.post(f"tasks/{handle.id}/retry", status=409)
    assert "has ended" in refused["error"]
    assert (await site.post("tasks/none/cancel", status=404))["error"].startswith("task none is not known")


async def test_the_record_of_changes_is_bounded_and_survives_foreign_entries(queue: TaskQueue, site: Site) -> None:
    broker: Any = queue.broker
    for entry in (b"\xff\x00not json", b'{"at": "yesterday"}', b"[" * 5000):
        await broker.note_change(entry)
    rows = (await site.get("audit"))["items"]
    assert [row["action"] for row in rows] == ["unreadable"] * 3
    pipeline = broker.client.redis.pipeline(transaction=False)
    pipeline.lpush(broker.fleet.audit, *([b"x"] * 6000))
    await pipeline.execute()
    await broker.note_change(b"y")
    assert await broker.client.redis.llen(broker.fleet.audit) == 5000
    assert await broker.client.redis.pttl(broker.fleet.audit) > 0
    page = await site.get("audit")
    assert (len(page["items"]), page["cursor"]) == (50, "50")
    assert len((await site.get("audit", cursor="4990"))["items"]) == 10
    assert (await site.refused("audit", cursor="-1"))[0] == 422


async def test_jobs_that_run_at_once_are_bounded(
    queue: TaskQueue, site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    going = asyncio.Event()

    async def wait(*_: Any) -> None:
        await going.wait()

    monkeypatch.setattr(site.serving.jobs, "_matching", wait)
    started = [(await site.post("dead/requeue", {"match": {}}, status=202))["job"] for _ in range(4)]
    refused = await site.post("dead/requeue", {"match": {}}, status=429)
    assert refused["error"].startswith("4 jobs run already")
    assert (await site.get(f"jobs/{started[0]}"))["state"] == "running"
    assert (await site.post(f"jobs/{started[0]}/undo", status=409))[
        "error"
    ] == "the job still runs; undo it when it is done"
    going.set()
    await until(lambda: site.serving.jobs.running == 0, "the jobs end")


async def test_only_a_discard_is_undone(site: Site, letters: list[str]) -> None:
    job = await site.job("requeue", {"queue": "default", "ids": letters[:1]})
    refused = await site.post(f"jobs/{job['job']}/undo", status=409)
    assert refused["error"] == "only a discard can be undone: a requeued task may have run already"


async def test_another_process_tells_how_far_a_job_is_and_that_its_dashboard_has_ended(
    queue: TaskQueue, site: Site, make_site: MakeSite, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_TOLD_SECONDS", 0.0)
    monkeypatch.setattr("taskfleet_dashboard.reading.letters._TOGETHER", 2)
    broker: Any = queue.broker
    requeue, calls = broker.requeue_letters, 0

    async def stops(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await asyncio.Event().wait()
        return await requeue(*args)

    monkeypatch.setattr(broker, "requeue_letters", stops)
    other = await make_site(queue)
    job = (await site.post("dead/requeue", {"match": {}}, status=202))["job"]
    await until(lambda: calls == 2, "the job is in the middle")
    told = await other.get(f"jobs/{job}")
    assert (told["state"], told["done"], told["examined"], told["total"]) == ("running", 2, 2, 5)
    await site.serving.jobs.close()
    told = await other.get(f"jobs/{job}")
    assert (told["state"], told["error"], told["done"]) == ("failed", "the dashboard has ended", 2)


async def test_a_job_that_meets_an_error_of_its_own_has_failed_and_says_so(
    queue: TaskQueue, site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(queue.broker, "requeue_letters", breaks)
    told = await site.job("requeue", {"match": {}})
    line = "the dashboard has met an error of its own; its log has the details"
    assert (told["state"], told["error"], told["done"]) == ("failed", line, 0)
    assert "ZeroDivisionError: secret" in caplog.text
    assert (await outcomes(site))[0] == ("requeue", "dead letters of all queues", f"failed: 0 requeued: {line}")


def test_room_for_held_letters_is_bounded_in_number_and_bytes_and_gets_free() -> None:
    room = jobs._Room()
    room.take("a", 600.0, 4_000, 10 * 1_048_576)
    room.take("b", 700.0, 6_000, 5 * 1_048_576)
    assert room.left(599.0) == (0, 1_048_576)
    assert room.left(600.0) == (4_000, 11 * 1_048_576)
    room.take("c", 800.0, 9_000, 20 * 1_048_576)
    assert room.left(699.0) == (0, 0)
    assert room.left(800.0) == (jobs.MOST_HELD, jobs.MOST_HELD_BYTES)


async def test_a_change_is_in_the_log_too(queue: TaskQueue, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "taskfleet.dashboard.audit")
    await site.post("queues/defualt/pause", status=404)
    assert "somebody: pause queue defualt: there is no queue 'defualt'" in caplog.text
    job = await site.job("requeue", {"match": {}})
    assert f"somebody: requeue dead letters of all queues (job {job['job']}): done: 0 requeued" in caplog.text


async def test_a_page_of_dead_letters_looks_at_a_bounded_number_of_them(
    site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_letters, "_TOGETHER", 1)
    monkeypatch.setattr(reading_letters, "_MOST_EXAMINED", 2)
    page = await site.get("dead", q="nowhere")
    assert (page["items"], page["examined"], page["cursor"] is not None) == ([], 2, True)
    page = await site.get("dead", q="nowhere", cursor=page["cursor"])
    assert (page["items"], page["examined"], page["cursor"] is not None) == ([], 2, True)
    page = await site.get("dead", q="nowhere", cursor=page["cursor"])
    assert (page["items"], page["examined"], page["cursor"]) == ([], 1, None)


def test_a_page_goes_on_behind_a_partition_that_is_gone() -> None:
    a, b, c = Partition("a"), Partition("b"), Partition("c")
    place = Place(7.0, b"member")
    cursor = reading_letters._cursor(b, place)
    assert reading_letters._position(cursor, [a, b, c]) == (1, place)
    assert reading_letters._position(cursor, [a, c]) == (1, None)
    assert reading_letters._position(cursor, [a]) == (1, None)
