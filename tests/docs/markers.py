"""Why a block of a page is not run beside the others: every marker `<!-- needs: … -->`, and what checks it instead.

In all of them shell, Python, YAML, TOML and JSON must still be well formed, and TaskQueues valid.
"""

from __future__ import annotations

NEEDS = {
    "cluster": "kubectl and helm against a cluster with nodes; e2e/ and tests/controlplane run such commands",
    "docker": "a Docker engine, and a registry to push to; e2e/ builds the images",
    "systemd": "the service manager of a machine, as root",
    "minutes": "it measures or tests for minutes",
    "terminal": "a full screen",
}

# Folders whose commands are those of the repository's own test suites, which take minutes and need root or a cluster:
# the commands must be well formed, and `make` must know the chores.
CHORES_ONLY = ("docs/development",)

# Libraries without types. mypy cannot see through their decorators and base classes.
UNTYPED = ("django", "asgiref")

# Applications of other queues, from which one comes. tests/migrate runs them; their libraries are not installed here.
OTHERS = ("celery", "rq", "arq", "dramatiq")
