"""The operator's part of the `taskfleet` command: `operator`, `up`, `validate`, `render`."""

from __future__ import annotations

import asyncio
import json
import logging
import platform
from pathlib import Path
from typing import Any, cast

import typer
import yaml

from taskfleet import logs

_MANIFEST = typer.Argument(..., metavar="FILE", help="A TaskQueue manifest.")
_LOG_LEVEL = typer.Option("", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO.")
_NAMESPACES = typer.Option([], "--namespace", "-n", help="Watch only this one; may be given several times.")


def register(app: typer.Typer) -> None:
    """Add the commands; called by the library's command line through an entry point."""

    @app.command()
    def up(  # pyright: ignore[reportUnusedFunction]
        file: Path = _MANIFEST,
        redis: str = typer.Option(
            "", "--redis", help="A Redis URL, or `embedded`; default: REDIS_URL, the manifest's."
        ),
        as_json: bool = typer.Option(False, "--json", help="One JSON object per line in place of the view."),
        log_level: str = _LOG_LEVEL,
    ) -> int:
        """Run a TaskQueue manifest on this machine, without a cluster."""
        logs.configure(log_level)
        from .local.up import up as run_up

        return run_up(file, redis_url=redis or None, json_lines=as_json)

    @app.command()
    def validate(  # pyright: ignore[reportUnusedFunction]
        file: Path = _MANIFEST, as_json: bool = typer.Option(False, "--json")
    ) -> int:
        """Check a manifest as the API server would."""
        from .resource.manifest import load_manifest

        queue = load_manifest(file)
        valid = {"file": str(file), "name": queue.metadata.name, "valid": True}
        print(json.dumps(valid) if as_json else f"{file}: TaskQueue {queue.metadata.name!r} is valid")
        return 0

    @app.command()
    def render(  # pyright: ignore[reportUnusedFunction]
        file: Path = _MANIFEST, as_json: bool = typer.Option(False, "--json")
    ) -> int:
        """Print the Kubernetes objects that a manifest becomes."""
        from .children import children_of
        from .resource.manifest import load_manifest

        children = children_of(load_manifest(file))
        print(json.dumps(children) if as_json else yaml.safe_dump_all(children, sort_keys=False, width=120), end="")
        return 0

    @app.command()
    def operator(  # pyright: ignore[reportUnusedFunction]
        namespaces: list[str] = _NAMESPACES,
        probe_port: int = typer.Option(0, help="Serve /healthz here; 0 is off.", min=0, max=65535),
        log_level: str = _LOG_LEVEL,
    ) -> int:
        """Run the operator, for all namespaces or the given ones."""
        logs.configure(log_level)
        import kopf

        from .control.kubernetes_api import KubernetesApi
        from .handlers import registry

        for quiet in ("kopf", "aiohttp.access", "kubernetes"):
            logging.getLogger(quiet).setLevel(logging.ERROR if quiet == "kubernetes" else logging.WARNING)
        asyncio.run(KubernetesApi.configuration())  # fails at once, while kopf would retry without end, with tracebacks
        kopf.run(
            registry=registry(clusterwide=not namespaces),
            # By default kopf asks for the name of the user, and user 65532 of a container has none.
            identity=cast("Any", platform.node()),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            liveness_endpoint=f"http://0.0.0.0:{probe_port}/healthz" if probe_port else None,
        )
        return 0
