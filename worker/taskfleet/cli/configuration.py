"""`taskfleet config show`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from taskfleet.cli import listing, origins, redirecting
from taskfleet.cli.connecting import REDIS
from taskfleet.cli.listing import Column
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from taskfleet.cli.origins import Setting

# Read outside of the settings' sections.
_VARIABLES = ("TASKFLEET_QUEUES", "TASKFLEET_LOG_LEVEL", "TASKFLEET_WORKER_NAME")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The settings of this folder and environment.", no_args_is_help=True)

    @group.callback()
    def settings() -> None: ...  # pyright: ignore[reportUnusedFunction]

    @group.command()
    def show(  # pyright: ignore[reportUnusedFunction]
        origin: bool = typer.Option(False, "--origin", help="Say where each value comes from."),
        redis: str = REDIS,
        as_json: bool = JSON,
    ) -> int:
        """List all settings, without secrets."""
        columns: list[Column[Setting]] = [
            Column("setting", lambda setting: setting.name),
            Column("value", lambda setting: _text(setting.value), cut=True),
        ]
        if origin:
            columns.append(Column("origin", lambda setting: setting.origin))
        listing.show(_settings(redis), columns, lambda setting: _record(setting, origin), as_json=as_json, none="")
        return 0

    app.add_typer(group, name="config")


def _settings(redis: str) -> list[Setting]:
    from taskfleet import config

    settings, sources = config.load_with_origins()
    if redis:
        before = settings.redis
        settings = settings.model_copy(update={"redis": redirecting.at(before, redis)})
        for key in type(before).model_fields:
            if getattr(settings.redis, key) != getattr(before, key) or key == "url":
                sources["redis", key] = "--redis"
    config.queue_options()  # for its errors
    found = list(origins.settings_of(settings, sources))
    return found + [
        origins.Setting(variable.removeprefix("TASKFLEET_").lower(), origins.masked(value), variable, False)
        for variable in _VARIABLES
        if (value := os.environ.get(variable))
    ]


def _record(setting: Setting, origin: bool) -> dict[str, Any]:
    record = {"name": setting.name, "value": setting.value}
    return {**record, "origin": setting.origin} if origin else record


def _text(value: Any) -> str:
    if value is None or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        f"{value:g}"
        if isinstance(value, float)
        else ",".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
