"""Shared by all tiers: the end of the output names each tier that could not run."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from taskfleet.testing import plugin
from tests.support import hanging, requirements


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--redis-topology",
        choices=["standalone", "cluster"],
        default="standalone",
        help="what the behaviour tests of tests/engine run on",
    )
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="tests/browser writes the pictures of the dashboard into docs/images",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "orphans(reason): the test leaves keys in Redis that nothing would ever remove")
    # From a source tree that is not installed, it has no entry point: the tests of one file would share their names.
    if not config.pluginmanager.has_plugin("taskfleet"):
        config.pluginmanager.register(plugin, "taskfleet")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with hanging.limited(item.config):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    yield  # after pytest's own summary, so that this is the last text on the screen
    requirements.report(terminalreporter, config)
