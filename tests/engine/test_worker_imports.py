"""What an idle worker of a Redis has not imported, beside what the worker of any broker has not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.unit.test_worker_options import UNUSED, modules_of

UNUSED_WITH_REDIS = """
protocol.schedules protocol.task_record protocol.worker_info redis.calls.inspection redis.calls.letters
redis.calls.operations redis.mass_operations redis.misfits redis.sentinel redis.tls
"""


def test_a_worker_of_a_redis_has_imported_no_feature_that_it_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("APP_URL", redis_url)
    loaded = modules_of(tmp_path)
    assert "taskfleet.redis.broker" in loaded
    assert not loaded & {f"taskfleet.{name}" for name in (UNUSED + UNUSED_WITH_REDIS).split()}


@pytest.mark.parametrize("name", UNUSED_WITH_REDIS.split())
def test_each_of_these_modules_is_there(name: str) -> None:
    assert importlib.util.find_spec(f"taskfleet.{name}") is not None
