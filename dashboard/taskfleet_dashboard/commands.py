"""The command `taskfleet dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from taskfleet import logs
from taskfleet.cli.connecting import REDIS, with_app, with_queue
from taskfleet.cli.log_options import LOG_FORMAT
from taskfleet.cli.worker_command import passed_on

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_MASK = typer.Option(
    [], "--mask", metavar="FIELD", help="Do not show the values of this field; may be given several times."
)
_TOKEN_FILE = typer.Option(None, metavar="FILE", help="Access by tokens: lines of TOKEN, or view|edit NAME TOKEN.")
_TRUSTED_PROXY = typer.Option(
    [],
    "--trusted-proxy",
    metavar="NETWORK",
    help="Believe headers that come from here; may be given several times.",
)
_EDIT_GROUP = typer.Option(
    [], "--edit-group", metavar="GROUP", help="Only this group may change anything; may be given several times."
)
_VIEW_GROUP = typer.Option(
    [],
    "--view-group",
    metavar="GROUP",
    help="Only this group, and --edit-group, may look; may be given several times.",
)
_HOST_NAME = typer.Option(
    [], "--host-name", metavar="NAME", help="Serve only under this name; may be given several times."
)
_TLS_CERT = typer.Option(None, help="Certificate of the server, PEM; with --tls-key.")
_TLS_KEY = typer.Option(None, help="Key of the certificate, PEM.")
_TLS_CLIENT_CA = typer.Option(None, help="Accept only clients with a certificate of this CA, PEM.")


def register(app: typer.Typer) -> None:
    """Add the command; called by the library's command line through an entry point."""

    @app.command()
    def dashboard(  # pyright: ignore[reportUnusedFunction]
        host: str = typer.Option("127.0.0.1", help="Listen here. Beyond loopback it needs an access method."),
        port: int = typer.Option(8080, help="Listen on this port; 0 takes a free one.", min=0, max=65535),
        redis: str = REDIS,
        application: str = typer.Option(
            "", "--app", help="module:attribute; its code tells limits, names of arguments, and keys."
        ),
        read_only: bool = typer.Option(False, "--read-only", help="Nobody may change anything."),
        mask: list[str] = _MASK,
        token_file: Path | None = _TOKEN_FILE,
        proxy_user_header: str = typer.Option(
            "", metavar="HEADER", help="Access by an OIDC proxy, which sends the user's name here."
        ),
        proxy_groups_header: str = typer.Option("", metavar="HEADER", help="Where the proxy sends the user's groups."),
        trusted_proxy: list[str] = _TRUSTED_PROXY,
        edit_group: list[str] = _EDIT_GROUP,
        view_group: list[str] = _VIEW_GROUP,
        kubernetes_access: str = typer.Option(
            "",
            metavar="NAMESPACE",
            help="Access by tokens of Kubernetes: get on taskqueues there may look, update may change.",
        ),
        kubernetes_audience: str = typer.Option(
            "",
            metavar="AUDIENCE",
            help="Also take tokens that are for this audience alone, and not for the API server.",
        ),
        host_name: list[str] = _HOST_NAME,
        tls_cert: Path | None = _TLS_CERT,
        tls_key: Path | None = _TLS_KEY,
        tls_client_ca: Path | None = _TLS_CLIENT_CA,
        commands_per_second: float = typer.Option(
            200.0, help="The most that open pages may cost Redis.", min=10.0, max=1_000_000.0
        ),
        log_level: str = typer.Option(
            "", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO."
        ),
        log_format: str = LOG_FORMAT,
    ) -> int:
        """Serve the dashboard: queues, tasks, dead letters, schedules, workers, autoscalers."""
        logs.configure(log_level, log_format)
        from taskfleet.parent_process import Parent
        from taskfleet_dashboard.server import DashboardOptions, serve

        parent = Parent()

        options = DashboardOptions(
            host=host,
            port=port,
            host_names=host_name,
            token_file=token_file,
            proxy_user_header=proxy_user_header,
            proxy_groups_header=proxy_groups_header,
            trusted_proxies=trusted_proxy,
            edit_groups=edit_group,
            view_groups=view_group,
            kubernetes_access=kubernetes_access,
            kubernetes_audience=kubernetes_audience,
            read_only=read_only,
            masks=mask,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            commands_per_second=commands_per_second,
        )
        options.access()  # before anything connects

        async def run(queue: TaskQueue) -> None:
            await serve(queue, options, parent)

        redis = redis or passed_on()[0]
        return with_app(application, redis, run) if application else with_queue(redis, run)
