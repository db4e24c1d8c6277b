"""What `taskfleet operator` was told."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from taskfleet.errors import ConfigurationError

from .listening import listening

LEASE_NAME = "taskfleet-operator"

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUE = rf"({_NAME})?"
_REQUIREMENT = re.compile(
    rf"!?\s*{_KEY}|{_KEY}\s*(=|==|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s*\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\)"
)


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """Ports of 0 are not served; without a lease namespace there is no election, and this process leads."""

    namespaces: tuple[str, ...] = ()
    """Empty: all namespaces."""
    watch_selector: str = ""
    """A label selector of the TaskQueues that this operator serves; empty: all."""
    lease_namespace: str = ""
    lease_name: str = ""
    probe_port: int = 0
    metrics_port: int = 0
    webhook_port: int = 0
    webhook_cert_dir: str = ""

    def __post_init__(self) -> None:
        if self.watch_selector:
            check_selector(self.watch_selector)
        if bool(self.webhook_port) != bool(self.webhook_cert_dir):
            raise ConfigurationError("--webhook-port and --webhook-cert-dir belong together; give both or neither")

    def check_ports(self) -> None:
        """Raise `ConfigurationError` for a port that is taken, before anything else is started."""
        ports = {"--probe-port": self.probe_port, "--metrics-port": self.metrics_port}
        if self.webhook_port and self.webhook_port in ports.values():
            raise ConfigurationError(f"--webhook-port {self.webhook_port} is another port's too; choose another port")
        for option, port in {**ports, "--webhook-port": self.webhook_port}.items():
            if port:
                listening(port, option).close()

    @property
    def lease(self) -> str:
        """The name of the Lease. Operators with different selectors lead side by side, so each selector has its own."""
        if self.lease_name or not self.watch_selector:
            return self.lease_name or LEASE_NAME
        return f"{LEASE_NAME}-{hashlib.sha256(self.watch_selector.encode()).hexdigest()[:8]}"


def check_selector(selector: str) -> None:
    """Raise `ConfigurationError` for what the API server would refuse as a label selector."""
    for requirement in re.split(r",(?![^(]*\))", selector):
        if not _REQUIREMENT.fullmatch(requirement.strip()):
            raise ConfigurationError(
                f"--watch-selector: {requirement.strip()!r} is no label selector; write it as kubectl's -l, such as"
                " 'shard=a' or 'shard in (a, b)'"
            )
