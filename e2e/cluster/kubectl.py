"""kubectl and Helm as functions: standard output back, standard error in the exception."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from e2e.cluster.errors import ClusterError


class CommandError(ClusterError):
    """A command ended with a failure; the message is its standard error."""

    def __init__(self, command: str, returncode: int, stderr: str) -> None:
        super().__init__(f"{command} ended with {returncode}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr


class ClusterCommand:
    """One binary bound to one cluster, such as `kubectl("get", "pods", "-o", "name")`."""

    def __init__(self, binary: Path | str, kubeconfig: Path) -> None:
        self.binary = binary
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run it and return its standard output.

        Args:
            arguments: those of the binary.
            stdin: text for standard input, such as a manifest for `apply -f -`.
            timeout: seconds after which it is killed.

        Raises:
            CommandError: it ended with a failure.
        """
        finished = subprocess.run(
            [str(self.binary), *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if finished.returncode != 0:
            name = Path(self.binary).name
            raise CommandError(f"{name} {' '.join(arguments)}", finished.returncode, finished.stderr or finished.stdout)
        return finished.stdout

    def json(self, *arguments: str, timeout: float = 120.0) -> Any:
        """Run it with `-o json` and return the parsed output."""
        return json.loads(self(*arguments, "-o", "json", timeout=timeout))


def wait_until(command: ClusterCommand, *arguments: str, seconds: float = 30.0) -> str:
    """Repeat a command until it succeeds, and return its standard output."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return command(*arguments)
        except CommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
