"""`taskfleet dead list|show|requeue|purge`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import asking, completing, listing, progress_bar, similar, traces
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.cli.listing import Column
from taskfleet.cli.queues import JSON, QUEUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskfleet.protocol.dead_letter import DeadLetter
    from taskfleet.queue import TaskQueue

_COLUMNS: list[Column[DeadLetter]] = [
    Column("id", lambda letter: letter.id),
    Column("died (UTC)", lambda letter: listing.moment(letter.died_at)),
    Column("task", lambda letter: letter.task, cut=True),
    Column("reason", lambda letter: letter.reason, cut=True),
    Column("error", lambda letter: letter.error, cut=True),
]
_IDS = typer.Argument(
    None, metavar="[ID]...", help="Without ids: all, after a question.", autocompletion=completing.dead_ids
)
_COMPARED = 1000  # ids that are compared with one that is not there


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Dead letters: tasks that have failed for good.", no_args_is_help=True)

    @group.command("list")
    def list_(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE,
        limit: int = typer.Option(20, help="How many.", min=1, max=10_000),
        redis: str = REDIS,
        as_json: bool = JSON,
    ) -> int:
        """List the oldest dead letters with their reasons."""

        async def show(queue: TaskQueue) -> None:
            await similar.known_queue(queue, name)
            letters = await queue.dead_letters(name, limit=limit)
            none = f"queue {name!r} has no dead letter"
            listing.show(letters, _COLUMNS, dataclasses.asdict, as_json=as_json, none=none)
            total = (await queue.queue_stats(name)).dead
            if len(letters) == limit < total:
                print(f"{limit} of {total} dead letters; --limit gives more", file=sys.stderr)

        return with_queue(redis, show)

    @group.command()
    def show(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE,
        task_id: str = typer.Argument(..., metavar="ID", autocompletion=completing.dead_ids),
        redis: str = REDIS,
        as_json: bool = typer.Option(False, "--json", help="Print one object."),
    ) -> int:
        """Show one dead letter with its whole error and its traceback."""

        async def tell(queue: TaskQueue) -> None:
            await similar.known_queue(queue, name)
            letter = await _letter(queue, name, task_id)
            if letter is None:
                raise await _unknown_letter(queue, name, task_id)
            if as_json:
                print(listing.as_text({"queue": name, **dataclasses.asdict(letter)}))
                return
            listing.fields([
                ("id", letter.id), ("task", letter.task), ("queue", name), ("state", letter.state),
                ("enqueued", _time(letter.enqueued_at)), ("died", _time(letter.died_at)),
                ("attempts", letter.attempts), ("deliveries", letter.deliveries),
                ("reason", letter.reason), ("error", letter.error),
            ])  # fmt: skip
            if letter.traceback:
                print(traces.shown_trace(letter.traceback))

        return with_queue(redis, tell)

    @group.command()
    def requeue(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE,
        ids: list[str] = _IDS,
        yes: bool = asking.YES,
        redis: str = REDIS,
    ) -> int:
        """Put dead letters back into their queue."""

        async def move(queue: TaskQueue) -> int:
            await similar.known_queue(queue, name)
            if ids:
                return await _requeue(queue, name, ids)
            total = (await queue.queue_stats(name)).dead
            if total:
                asking.ask(f"Requeue {_all(total)} of queue {name!r}", yes=yes)
            moved = await progress_bar.watched(queue.requeue_dead(name), "requeuing", total, lambda: _dead(queue, name))
            print(f"{_letters(moved)} requeued")
            if moved < total and (left := await _dead(queue, name)):
                print(f"taskfleet: {_letters(left)} of queue {name!r} stayed; the log says why", file=sys.stderr)
                return 1
            return 0

        return with_queue(redis, move)

    @group.command()
    def purge(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE, yes: bool = asking.YES, redis: str = REDIS
    ) -> int:
        """Delete all dead letters of a queue."""

        async def delete(queue: TaskQueue) -> None:
            await similar.known_queue(queue, name)
            total = await _dead(queue, name)
            if total:
                asking.ask(f"Delete {_all(total)} of queue {name!r}", yes=yes)
            deleted = await progress_bar.watched(queue.purge_dead(name), "deleting", total, lambda: _dead(queue, name))
            print(f"{_letters(deleted)} deleted")

        return with_queue(redis, delete)

    app.add_typer(group, name="dead")


async def _requeue(queue: TaskQueue, name: str, ids: Sequence[str]) -> int:
    """Requeue these. Those that are there go, and the first that is not is the error."""
    wanted = list(dict.fromkeys(ids))
    there = [task_id for task_id in wanted if await _letter(queue, name, task_id) is not None]
    moved = await queue.requeue_dead(name, there) if there else 0
    print(f"{_letters(moved)} requeued")
    missing = [task_id for task_id in wanted if task_id not in there]
    for task_id in missing:
        print(f"taskfleet: {await _unknown_letter(queue, name, task_id)}", file=sys.stderr)
    if moved < len(there):
        print(f"taskfleet: {_letters(len(there) - moved)} stayed; the log says why", file=sys.stderr)
    return 1 if missing or moved < len(there) else 0


async def _letter(queue: TaskQueue, name: str, task_id: str) -> DeadLetter | None:
    from taskfleet.protocol.dead_letter import DeadLetter

    queue.handle(task_id)  # checks the id
    for partition in await queue.broker.partitions(name):
        state, packed = await queue.broker.status(partition, task_id)
        if state == "dead":
            return DeadLetter.of_packed(task_id, packed, queue=name, seal=queue.application.seal)
    return None


async def _unknown_letter(queue: TaskQueue, name: str, task_id: str) -> similar.UnknownNameError:
    known = [letter_id async for letter_id, _ in queue.broker.dead_letters(name, limit=_COMPARED)]
    return similar.unknown(f"queue {name!r} has no dead letter", task_id, known)


async def _dead(queue: TaskQueue, name: str) -> int:
    return (await queue.queue_stats(name)).dead


def _all(number: int) -> str:
    return "the dead letter" if number == 1 else f"all {number} dead letters"


def _letters(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _time(time: object) -> str:
    from datetime import datetime

    return time.isoformat(timespec="milliseconds") if isinstance(time, datetime) else ""
