"""The built files, and environments in which the wheel is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.package import environments, pythons
from tests.package.environments import REPOSITORY, Environment
from tests.support.redis_server import RedisServer

MakeEnvironment = Callable[..., Environment]


@dataclass(frozen=True)
class Built:
    """The files of a release."""

    sdist: Path
    wheel: Path


def build(source: Path, folder: Path, *targets: str) -> None:
    """Build with the locked hatchling of this environment."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(
        [*command, *(part for each in targets for part in ("-t", each))],
        cwd=source, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    build(REPOSITORY, folder, "sdist", "wheel")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture
def make_environment(built: Built, tmp_path: Path) -> MakeEnvironment:
    """`make_environment(version, extras, …)`; the test is skipped where that Python is not to be had."""

    def make(version: str, extras: str = "", *more: str, constraints: Path | None = None) -> Environment:
        python = pythons.find(version)
        if isinstance(python, str):
            pytest.skip(python)
        folder = tmp_path / f"environment-{version}-{extras.replace(',', '-')}"
        return environments.make(folder, python, built.wheel, extras, *more, constraints=constraints)

    return make


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    server = RedisServer().start()
    yield server.url
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return empty
