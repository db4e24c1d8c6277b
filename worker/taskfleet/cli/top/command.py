"""`taskfleet top`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from taskfleet.cli.connecting import REDIS, with_app, with_queue
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def top(  # pyright: ignore[reportUnusedFunction]
        redis: str = REDIS,
        application: str = typer.Option(
            "", "--app", help="module:attribute; its code tells priorities, limits and keys."
        ),
        interval: float = typer.Option(2.0, help="Seconds between two readings.", min=0.2, max=3600.0),
        once: bool = typer.Option(False, "--once", help="Print one snapshot, as into a pipe."),
        as_json: bool = JSON,
    ) -> int:
        """Watch queues, workers, the longest runs and the last failures; it changes nothing."""
        from taskfleet.cli.top import plain, screen
        from taskfleet.redis import urls
        from taskfleet.watching.reading import FleetReading

        async def view(queue: TaskQueue) -> int:
            reading = FleetReading(queue)
            if once or as_json or not screen.is_able():
                return await plain.show(reading, interval, as_json=as_json)
            return await screen.show(reading, urls.address(queue.broker.url), interval)

        return with_app(application, redis, view) if application else with_queue(redis, view)
