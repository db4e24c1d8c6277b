"""examples/thumbnails/README.md: what runs on one machine. The rest is in e2e/test_thumbnails.py."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json

import pytest

from tests.examples.conftest import MakeExample
from tests.support import requirements


def test_every_thumbnail_is_made(example: MakeExample, pytestconfig: pytest.Config) -> None:
    try:
        importlib.metadata.files("scikit-image")
    except importlib.metadata.PackageNotFoundError as error:
        requirements.cannot_run(
            pytestconfig, "example", f"{error}; install examples/thumbnails/*.txt with pip --no-deps"
        )
    thumbnails = example("thumbnails")
    thumbnails.start("taskfleet worker thumbnails.tasks:queue --queues default --concurrency 4").says("4 slots")
    output = thumbnails.run("python enqueue.py --tasks 200 --verify")
    thumbnails.shows(output)
    told = json.loads(output)
    assert told.pop("seconds") > 0
    assert told == {"enqueued": 200, "succeeded": 200, "failed": 0, "wrong": 0, "lost": 0}
