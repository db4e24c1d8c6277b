"""The thumbnails example: its task is called as a plain function, without Redis."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from taskfleet_operator.resource.manifest import load_manifest
from tests.support import requirements

EXAMPLE = Path(__file__).parents[2] / "examples" / "thumbnails"


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    try:
        module = importlib.import_module("thumbnails.tasks")
        module.photos.path_of(module.photos.NAMES[0])
    except (ModuleNotFoundError, LookupError) as error:
        requirements.cannot_run(
            request.config, "example", f"{error}; install examples/thumbnails/*.txt with pip --no-deps"
        )
    return module


def test_every_photograph_becomes_a_thumbnail(tasks: ModuleType) -> None:
    hashes = set()
    for photo in tasks.photos.NAMES:
        made = tasks.make_thumbnail(photo, 128)
        with tasks.Image.open(tasks.photos.path_of(photo)) as original:
            assert made.height == round(original.height * 128 / original.width)
        assert (made.photo, made.width) == (photo, 128)
        assert 500 < made.bytes < 50_000
        assert len(made.dhash) == 16
        hashes.add(int(made.dhash, 16))
    # The two motorcycles are a stereo pair and may look the same; nothing else may.
    assert len(hashes) >= len(tasks.photos.NAMES) - 1


def test_the_hash_of_one_photograph_hardly_depends_on_the_width(tasks: ModuleType) -> None:
    small, large = (int(tasks.make_thumbnail("chelsea.png", width).dhash, 16) for width in (64, 256))
    assert (small ^ large).bit_count() <= 4


@pytest.mark.parametrize(("reverse", "digits"), [(False, "0" * 16), (True, "f" * 16)])
def test_the_hash_tells_which_neighbour_is_brighter(tasks: ModuleType, reverse: bool, digits: str) -> None:
    ramp = tasks.Image.linear_gradient("L").rotate(-90 if reverse else 90)
    assert tasks.difference_hash(ramp) == digits


def test_a_task_that_cannot_succeed_says_why(tasks: ModuleType) -> None:
    with pytest.raises(tasks.photos.UnknownPhotoError, match=r"no photograph is called 'cat.gif'; there are astronaut"):
        tasks.make_thumbnail("cat.gif", 64)
    with pytest.raises(ValueError, match="width=0 must be at least 1 pixel"):
        tasks.make_thumbnail("chelsea.png", 0)


def test_one_column_still_has_a_row(tasks: ModuleType) -> None:
    assert (tasks.make_thumbnail("rocket.jpg", 1).width, tasks.make_thumbnail("rocket.jpg", 1).height) == (1, 1)


@pytest.mark.parametrize("name", ["taskqueue.yaml", "taskqueue-mounted.yaml"])
def test_the_manifests_are_valid(name: str) -> None:
    resource = load_manifest(EXAMPLE / name)
    assert resource.spec.worker.app == "thumbnails.tasks:queue"
    assert resource.spec.autoscaler.max_replicas == 6
