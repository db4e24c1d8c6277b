"""The options that every command has, and what they lead to."""

from __future__ import annotations

import enum
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import typer

from taskfleet.showing import shown

from .cluster import Cluster
from .dashboard import Dashboard, find


class Output(enum.StrEnum):
    """How the answer is printed."""

    text = "text"
    json = "json"


NAMESPACE = typer.Option("", "--namespace", "-n", help="As of kubectl; default: that of the context.")
CONTEXT = typer.Option("", "--context", help="As of kubectl.")
KUBECONFIG = typer.Option("", "--kubeconfig", metavar="FILE", help="As of kubectl; default: KUBECONFIG.")
DASHBOARD = typer.Option(
    "", "--dashboard", envvar="TASKFLEET_DASHBOARD", metavar="[NAMESPACE/]NAME",
    help="The Service of the dashboard; default: the only one, or that of the namespace.",
)  # fmt: skip
ACCOUNT = typer.Option(
    "", "--service-account", metavar="[NAMESPACE/]NAME", help="Ask as this one; default: those of the chart."
)
OWN_TOKEN = typer.Option(False, "--own-token", help="Show the dashboard your own token, with all that it may do.")
OUTPUT = typer.Option(Output.text, "--output", "-o", metavar="text|json", help="What to print.")
QUEUE = typer.Argument(..., metavar="QUEUE")


@dataclass
class Target:
    """The cluster and the dashboard that a command line names, asked for when they are needed."""

    namespace: str
    context: str
    kubeconfig: str
    dashboard_name: str
    account: str
    own_token: bool
    output: Output

    @cached_property
    def cluster(self) -> Cluster:
        """The API server. Errors: `ConfigurationError`."""
        return Cluster.connect(self.kubeconfig, self.context, self.namespace)

    @cached_property
    def dashboard(self) -> Dashboard:
        """The dashboard. Errors: `NoDashboardError`, `ConfigurationError`."""
        return find(self.cluster, self.dashboard_name, account=self.account, own_token=self.own_token)

    @property
    def as_json(self) -> bool:
        """Whether to print JSON."""
        return self.output is Output.json

    def tell(self, answer: dict[str, Any], line: str) -> None:
        """Print a line for what was done, or the answer."""
        print(json.dumps(answer) if self.as_json else shown(line))


def say(line: str) -> None:
    """A line beside the output."""
    print(shown(line), file=sys.stderr)
