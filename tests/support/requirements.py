"""Requirements of a tier of tests: a control plane, a cluster, the git history.

Where a requirement is missing, the tests of the tier are skipped, and the last lines of the output name the tier and
the reason. With `CI=true` or `TASKFLEET_REQUIRE=1` the run fails instead.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

_MISSING = pytest.StashKey[dict[str, str]]()


def required() -> bool:
    """Whether a tier that cannot run is a failure."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes"} for name in ("CI", "TASKFLEET_REQUIRE"))


def cannot_run(config: pytest.Config, tier: str, reason: str) -> NoReturn:
    """Skip the test that asked for the tier, or fail it where tiers are required."""
    config.stash.setdefault(_MISSING, {})[tier] = reason
    if required():
        pytest.fail(f"the {tier} tier cannot run: {reason}", pytrace=False)
    pytest.skip(f"the {tier} tier cannot run: {reason}")


def report(terminal: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the tiers that did not run as the last lines before pytest's own summary line."""
    for tier, reason in config.stash.get(_MISSING, {}).items():
        terminal.write_line(f"NOT TESTED: the {tier} tier cannot run here: {reason}", red=True, bold=True)
        terminal.write_line("            Set TASKFLEET_REQUIRE=1 (CI=true does) to make this a failure.")
    config.stash[_MISSING] = {}
