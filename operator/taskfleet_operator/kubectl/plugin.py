"""All commands of `kubectl taskfleet`."""

from __future__ import annotations

import typer

from taskfleet.version import __version__

from . import dead, explain, queues, top, workers


def _version(value: bool) -> None:
    if value:
        print(f"kubectl taskfleet {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The commands."""
    app = typer.Typer(
        name="kubectl taskfleet",
        help="Ask the dashboard of Taskfleet in a cluster, with your own rights.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def options(  # pyright: ignore[reportUnusedFunction]
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    ) -> None:
        pass

    for part in (explain, top, queues, workers, dead):
        part.register(app)
    return app
