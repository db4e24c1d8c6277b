"""`taskfleet operator crd` and `operator chart`, from the wheel and from the repository; docs/how-to/install.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.package import pythons
from tests.package.conftest import MakeEnvironment
from tests.package.environments import REPOSITORY

CHART = REPOSITORY / "helm" / "taskfleet"
DEFINITION = (REPOSITORY / "crds" / "taskqueue.yaml").read_text(encoding="utf-8")


def operator(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command of this environment, whose packages are those of the repository."""
    command = [sys.executable, "-m", "taskfleet", "operator", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_gives_out_its_chart_and_its_definition(make_environment: MakeEnvironment, folder: Path) -> None:
    environment = make_environment(pythons.VERSIONS[-1], "cli")
    assert environment.run("operator", "crd", folder=folder).stdout == DEFINITION
    done = environment.run("operator", "chart", "chart", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(folder / "chart") == files(CHART)


def test_a_checkout_gives_out_its_own(folder: Path) -> None:
    assert operator("crd", folder=folder).stdout == DEFINITION
    done = operator("chart", "a folder/of mine", folder=folder)
    assert done.stdout.endswith("helm upgrade --install taskfleet 'a folder/of mine'\n")
    assert files(folder / "a folder/of mine") == files(CHART)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("chart", "full"), "taskfleet: full: is not empty; name a new folder for the chart\n"),
        (("chart", "file"), "taskfleet: file: cannot be written: Not a directory\n"),
        (
            ("--probe-port", "80", "crd"),
            "taskfleet: Invalid value: `operator crd` does not take --probe-port. Try --help.\n",
        ),
        (("chard", "x"), "taskfleet: No such command 'chard'. Did you mean 'chart'? Try --help.\n"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(folder: Path, arguments: tuple[str, ...], line: str) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "values.yaml").write_text("mine", encoding="utf-8")
    (folder / "file").write_text("mine", encoding="utf-8")
    before = files(folder)
    done = operator(*arguments, folder=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert files(folder) == before
