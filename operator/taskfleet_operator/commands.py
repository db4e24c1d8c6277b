"""The operator's part of the `taskfleet` command: `operator`, `up`, `validate`, `render`."""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import shlex
import sys
from pathlib import Path
from typing import Any, cast

import typer

from taskfleet import logs
from taskfleet.cli.connecting import REDIS, redis_option
from taskfleet.cli.log_options import DASHBOARD_PORT, LOG_FORMAT, NO_DASHBOARD
from taskfleet.cli.queues import JSON
from taskfleet.showing import shown

_LINE_LIMIT = 2000  # characters

_REDIS_OR_EMBEDDED = redis_option("A Redis URL, or `embedded`; default: REDIS_URL, the manifest's.")
_MANIFEST = typer.Argument(..., metavar="FILE", help="A TaskQueue manifest.")
_MANIFESTS = typer.Argument(..., metavar="FILE...", help="TaskQueue manifests, or - for standard input.")
_LOG_LEVEL = typer.Option("", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO.")
_TLS_CERT = typer.Option(None, help="Certificate of the server, PEM; with --tls-key.")
_TLS_KEY = typer.Option(None, help="Key of the certificate, PEM.")
_TLS_CLIENT_CA = typer.Option(None, help="Accept only clients with a certificate of this CA, PEM.")
_NEW_FOLDER = typer.Argument(..., metavar="DIR", help="A new or empty folder.")
_NAMESPACES = typer.Option([], "--namespace", "-n", help="Watch only this one; may be given several times.")


def _list_of(children: list[dict[str, Any]]) -> dict[str, Any]:
    """A List, as `kubectl apply -f` takes it."""
    return {"apiVersion": "v1", "kind": "List", "items": children}


def _refuse_options(context: typer.Context) -> None:
    """An option of the running operator has no effect on its subcommands."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"`operator {context.invoked_subcommand}` does not take {parameter.opts[0]}")


def register(app: typer.Typer) -> None:
    """Add the commands; called by the library's command line through an entry point."""

    @app.command()
    def up(  # pyright: ignore[reportUnusedFunction]
        file: Path = _MANIFEST,
        redis: str = _REDIS_OR_EMBEDDED,
        as_json: bool = typer.Option(False, "--json", help="One JSON object per line in place of the view."),
        log_level: str = _LOG_LEVEL,
        log_format: str = LOG_FORMAT,
        no_dashboard: bool = NO_DASHBOARD,
        dashboard_port: int | None = DASHBOARD_PORT,
    ) -> int:
        """Run a TaskQueue manifest on this machine, without a cluster."""
        logs.configure(log_level, log_format)
        from .local.up import up as run_up

        return run_up(
            file,
            redis_url=redis or None,
            json_lines=as_json,
            dashboard=not no_dashboard,
            dashboard_port=dashboard_port,
        )

    @app.command()
    def validate(  # pyright: ignore[reportUnusedFunction]
        files: list[Path] = _MANIFESTS, as_json: bool = JSON
    ) -> int:
        """Check manifests as the API server would; - reads standard input."""
        from .resource.validation import validate as verdicts

        found = list(verdicts(files))
        for verdict in () if as_json else found:
            if verdict.valid:
                print(f"{verdict.file}: TaskQueue {shown(repr(verdict.name))} is valid")
            for line in verdict.lines():
                print(f"taskfleet: {shown(line, _LINE_LIMIT)}", file=sys.stderr)
        if as_json:
            items = [
                {"file": each.file, "name": each.name, "valid": each.valid,
                 "problems": [{"field": field, "message": message} for field, message in each.problems]}
                for each in found
            ]  # fmt: skip
            print(json.dumps({"items": items}))
        return 2 if not all(each.valid for each in found) else 0

    @app.command()
    def render(  # pyright: ignore[reportUnusedFunction]
        file: Path = _MANIFEST, as_json: bool = typer.Option(False, "--json")
    ) -> int:
        """Print the Kubernetes objects that a manifest becomes."""
        import yaml

        from .children import children_of
        from .resource.manifest import load_manifest

        children = children_of(load_manifest(file))
        print(
            json.dumps(_list_of(children)) if as_json else yaml.safe_dump_all(children, sort_keys=False, width=120),
            end="",
        )
        return 0

    operator_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    app.add_typer(operator_app, name="operator")

    @operator_app.callback()
    def operator(  # pyright: ignore[reportUnusedFunction]
        context: typer.Context,
        namespaces: list[str] = _NAMESPACES,
        watch_selector: str = typer.Option("", help="Serve only the TaskQueues with these labels, as kubectl's -l."),
        lease_namespace: str = typer.Option(
            "", envvar="POD_NAMESPACE", help="Where the Lease of the leader is; empty: no election, this one leads."
        ),
        lease_name: str = typer.Option("", help="Default: taskfleet-operator, with a hash of --watch-selector."),
        probe_port: int = typer.Option(0, help="Serve /healthz and /readyz here; 0 is off.", min=0, max=65535),
        metrics_port: int = typer.Option(0, help="Serve /metrics here; 0 is off.", min=0, max=65535),
        webhook_port: int = typer.Option(0, help="Serve the validating webhook here; 0 is off.", min=0, max=65535),
        webhook_cert_dir: str = typer.Option("", help="A folder with its tls.crt and tls.key, read again on change."),
        log_level: str = _LOG_LEVEL,
        log_format: str = LOG_FORMAT,
    ) -> int:
        """Run the operator, for all namespaces or the given ones."""
        if context.invoked_subcommand is not None:
            _refuse_options(context)
            return 0
        logs.configure(log_level, log_format)
        from .control.api import login
        from .frame import kopf
        from .handlers import registry
        from .operator_options import OperatorOptions

        options = OperatorOptions(
            namespaces=tuple(namespaces),
            watch_selector=watch_selector,
            lease_namespace=lease_namespace,
            lease_name=lease_name,
            probe_port=probe_port,
            metrics_port=metrics_port,
            webhook_port=webhook_port,
            webhook_cert_dir=webhook_cert_dir,
        )
        options.check_ports()
        for quiet in ("kopf", "aiohttp.access", "kubernetes"):
            logging.getLogger(quiet).setLevel(logging.ERROR if quiet == "kubernetes" else logging.WARNING)
        asyncio.run(login.client())  # fails at once, while kopf would retry without end, with tracebacks
        kopf.run(
            registry=registry(options),
            # By default kopf asks for the name of the user, and user 65532 of a container has none.
            identity=cast("Any", platform.node()),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        return 0

    @operator_app.command()
    def crd() -> int:  # pyright: ignore[reportUnusedFunction]
        """Print the definition of TaskQueue, for `kubectl apply -f -`."""
        from . import shipped_files

        print(shipped_files.definition(), end="")
        return 0

    @operator_app.command()
    def chart(  # pyright: ignore[reportUnusedFunction]
        folder: Path = _NEW_FOLDER,
    ) -> int:
        """Write the Helm chart of this version into a folder."""
        from . import shipped_files

        shipped_files.write_chart(folder)
        print(f"the chart is in {folder}; install it: helm upgrade --install taskfleet {shlex.quote(str(folder))}")
        return 0

    @app.command("keda-scaler")
    def keda_scaler(  # pyright: ignore[reportUnusedFunction]
        redis: str = REDIS,
        host: str = typer.Option("[::]", help="Listen on this address; `[::]` is IPv6 and IPv4."),
        port: int = typer.Option(6000, help="Listen on this port.", min=0, max=65535),
        tls_cert: Path | None = _TLS_CERT,
        tls_key: Path | None = _TLS_KEY,
        tls_client_ca: Path | None = _TLS_CLIENT_CA,
        log_level: str = _LOG_LEVEL,
        log_format: str = LOG_FORMAT,
    ) -> int:
        """Answer KEDA as an external scaler, with the autoscaler's recommendation."""
        logs.configure(log_level, log_format)
        if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
            raise typer.BadParameter("--tls-cert and --tls-key belong together, and --tls-client-ca needs both")
        from .keda.run import run
        from .keda.server import Certificates

        certificates = Certificates(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None
        return run(f"{host}:{port}", certificates, redis or None)
