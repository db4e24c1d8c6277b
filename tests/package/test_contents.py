"""What the wheel and the source distribution hold, file by file, and what they say of themselves."""

from __future__ import annotations

import email
import re
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from taskfleet import __version__
from tests.package import pythons
from tests.package.conftest import Built, build
from tests.package.environments import REPOSITORY

HOME = "https://github.com/taskfleet/taskfleet"
INFO = f"taskfleet-{__version__}.dist-info"
SOURCES = {
    "worker/taskfleet": (".py", ".lua"),
    "operator/taskfleet_operator": (".py",),
    # The pages of the dashboard are built (make dashboard), and kept in the repository.
    "dashboard/taskfleet_dashboard": (
        ".py",
        ".html",
        ".js",
        ".css",
        ".svg",
        ".woff2",
        ".png",
        ".ico",
        ".webmanifest",
        ".txt",
    ),
}
CHART = {
    ".helmignore", "Chart.yaml", "README.md", "values.schema.json", "values.yaml", "files/taskqueue.yaml",
    "files/alerts.yaml",
    *(f"files/dashboards/taskfleet-{name}.json" for name in ("autoscaler", "queues", "workers")),
    *(f"templates/{name}" for name in (
        "NOTES.txt", "_names.tpl", "_rules.tpl", "crd.yaml", "dashboard.yaml", "dashboardrbac.yaml", "dashboards.yaml",
        "deployment.yaml", "metrics.yaml",
        "networkpolicy.yaml", "poddisruptionbudget.yaml", "podmonitors.yaml", "policy.yaml", "prometheusrule.yaml",
        "rbac.yaml", "serviceaccount.yaml", "userroles.yaml", "webhook.yaml",
    )),
}  # fmt: skip
IN_WHEEL = {
    "taskfleet/py.typed", "taskfleet_operator/py.typed", "taskfleet_dashboard/py.typed",
    *(f"taskfleet_operator/helm/taskfleet/{name}" for name in CHART),
    *(f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE", "RECORD")),
}  # fmt: skip
IN_SDIST = {
    "PKG-INFO", "pyproject.toml", ".gitignore", "README.md", "LICENSE", "CHANGELOG.md", "crds/taskqueue.yaml",
    "worker/taskfleet/py.typed", "operator/taskfleet_operator/py.typed",
    "dashboard/taskfleet_dashboard/py.typed", *(f"helm/taskfleet/{name}" for name in CHART),
    "tests/__init__.py", "tests/conftest.py", "tests/engine/__init__.py", "tests/engine/conftest.py",
    "tests/tutorial/README.md",
}  # fmt: skip
TESTS_IN_SDIST = ("tests/support", "tests/tutorial", "tests/engine/behaviour")
SCRIPTS = 20  # there are more, and a wheel without them would import


def sources(folder: str, *suffixes: str) -> set[str]:
    """The files of a folder of the repository with these suffixes."""
    found = (path for suffix in suffixes for path in (REPOSITORY / folder).rglob(f"*{suffix}"))
    return {path.relative_to(REPOSITORY).as_posix() for path in found if "__pycache__" not in path.parts}


def contents(file: Path) -> dict[str, bytes]:
    """The files of a wheel, or of a source distribution without its outer folder."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(file) as sdist:
        held = {each.name.partition("/")[2]: sdist.extractfile(each) for each in sdist.getmembers() if each.isfile()}
        return {name: data.read() for name, data in held.items() if data is not None}


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    return email.message_from_string(contents(built.wheel)[f"{INFO}/METADATA"].decode())


def test_the_wheel_holds_the_packages_the_scripts_and_the_chart_and_nothing_else(built: Built) -> None:
    code = {name.partition("/")[2] for folder, suffixes in SOURCES.items() for name in sources(folder, *suffixes)}
    assert contents(built.wheel).keys() == code | IN_WHEEL
    assert sum(name.endswith(".lua") for name in code) > SCRIPTS


def test_the_source_distribution_holds_what_builds_the_wheel_and_the_tests_that_need_nothing_else(built: Built) -> None:
    code = {name for folder, suffixes in SOURCES.items() for name in sources(folder, *suffixes)}
    tests = {name for folder in TESTS_IN_SDIST for name in sources(folder, ".py")}
    assert contents(built.sdist).keys() == code | tests | IN_SDIST


def test_the_tests_of_the_source_distribution_import_nothing_that_is_not_in_it(built: Built) -> None:
    held = contents(built.sdist)
    imported = {
        name
        for file, text in held.items()
        if file.startswith(("tests/tutorial/", "tests/engine/")) and file.endswith(".py")
        for name in re.findall(r"^from ((?:tests|bench|e2e)[\w.]*) import", text.decode(), re.MULTILINE)
    }
    assert "tests.engine.conftest" in imported
    paths = {name.replace(".", "/") for name in imported}
    assert {path for path in paths if not held.keys() & {f"{path}.py", f"{path}/__init__.py"}} == set()


def test_the_wheel_of_the_source_distribution_is_that_of_the_repository(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    build(tmp_path / f"taskfleet-{__version__}", tmp_path, "wheel")
    (wheel,) = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(built.wheel)


def test_the_chart_of_the_wheel_is_that_of_the_repository_with_the_generated_definition(built: Built) -> None:
    held = contents(built.wheel)
    for name in CHART:
        in_repository = (REPOSITORY / "helm" / "taskfleet" / name).read_bytes()
        assert held[f"taskfleet_operator/helm/taskfleet/{name}"] == in_repository, name
    crd = (REPOSITORY / "crds" / "taskqueue.yaml").read_bytes()
    assert held["taskfleet_operator/helm/taskfleet/files/taskqueue.yaml"] == crd


def test_the_metadata_name_the_licence_the_addresses_and_the_pythons_that_are_tested(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("taskfleet", __version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Documentation", "Source", "Changelog", "Issues"}
    assert all(url.startswith(HOME) for url in urls.values())
    classifiers = metadata.get_all("Classifier", [])
    assert tuple(re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))) == pythons.VERSIONS
    assert metadata["Requires-Python"] == f">={pythons.OLDEST}"
    assert not [each for each in classifiers if each.startswith("License")]  # PEP 639 leaves it to the expression


def test_the_description_is_the_readme_with_links_that_lead_somewhere_from_anywhere(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)\s]+)\)", description)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:
        name = re.sub(
            rf"^{HOME}/blob/v[^/]+/|^https://raw\.githubusercontent\.com/taskfleet/taskfleet/v[^/]+/", "", link
        )
        assert "://" in name or name.startswith("#") or (REPOSITORY / name.partition("#")[0]).exists(), link
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    without_links = [re.sub(r"\]\([^)\s]+\)", "]()", text).strip() for text in (description, readme)]
    assert without_links[0] == without_links[1]


def test_every_extra_brings_something_and_all_brings_them_all(metadata: Message) -> None:
    of_extra: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist", []):
        if found := re.search(r"^(.*?); .*?extra == '([\w-]+)'$", line):
            of_extra.setdefault(found[2], set()).add(found[1])
    everything = of_extra.pop("all")
    assert of_extra.keys() == {"operator", "kubectl", "cli", "keda", "web", "otel", "dev-server", "zstd", "crypto"}
    assert set[str]().union(*of_extra.values()) == everything
