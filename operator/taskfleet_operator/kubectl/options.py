"""The options that every command has, and what they lead to."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Concatenate

import typer

from taskfleet.showing import shown

from .cluster import ClusterAccess
from .dashboard import Dashboard, find


class Output(enum.StrEnum):
    """How the answer is printed."""

    text = "text"
    json = "json"


_OUTPUT = typer.Option(Output.text, "--output", "-o", metavar="text|json", help="What to print.")
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
    def cluster(self) -> ClusterAccess:
        """The API server. Errors: `ConfigurationError`."""
        return ClusterAccess.connect(self.kubeconfig, self.context, self.namespace)

    @cached_property
    def dashboard(self) -> Dashboard:
        """The dashboard. Errors: `NoDashboardError`, `ConfigurationError`."""
        return find(self.cluster, self.dashboard_name, account=self.account, own_token=self.own_token)

    @property
    def asks_for_one(self) -> bool:
        """Whether the command line says which dashboard to ask, or as whom."""
        return bool(self.dashboard_name or self.account or self.own_token)

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


def _target(
    namespace: str = typer.Option("", "--namespace", "-n", help="As of kubectl; default: that of the context."),
    context: str = typer.Option("", "--context", help="As of kubectl."),
    kubeconfig: str = typer.Option("", "--kubeconfig", metavar="FILE", help="As of kubectl; default: KUBECONFIG."),
    dashboard: str = typer.Option(
        "", "--dashboard", envvar="TASKFLEET_DASHBOARD", metavar="[NAMESPACE/]NAME",
        help="The Service of the dashboard; default: the only one, or that of the namespace.",
    ),
    account: str = typer.Option(
        "", "--service-account", metavar="[NAMESPACE/]NAME", help="Ask as this one; default: those of the chart."
    ),
    own_token: bool = typer.Option(
        False, "--own-token", help="Show the dashboard your own token, with all that it may do."
    ),
    output: Output = _OUTPUT,
) -> Target:  # fmt: skip
    return Target(namespace, context, kubeconfig, dashboard, account, own_token, output)


def on_dashboard(command: Callable[Concatenate[Target, ...], int]) -> Callable[..., int]:
    """The command with the options that every command has, in place of the `Target` that they name.

    Typer reads the options of a command from its signature.
    """
    shared = inspect.signature(_target, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @functools.wraps(command)
    def run(**given: Any) -> int:
        target = _target(**{name: given.pop(name) for name in shared})
        return command(target, **given)

    parameters = [*own, *shared.values()]
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
