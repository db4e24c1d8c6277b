"""What the schema accepts, a worker can start with: no manifest passes and then ends in a crash loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import config
from taskfleet.errors import ConfigurationError
from taskfleet.redis.from_settings import options_of, url_of
from taskfleet_operator.children import children_of
from taskfleet_operator.resource.manifest import parse
from taskfleet_operator.resource.taskqueue import TaskQueueResource, not_supported
from tests.support.mutations import all_mutations

OF_WORKERS = ("sentinel: ", "cluster: ", "spec.redis", "spec.worker", "spec.queues", "spec.scheduler")


def accepted() -> Iterator[tuple[str, TaskQueueResource]]:
    for name, manifest in all_mutations():
        if not name.startswith(OF_WORKERS):
            continue
        try:
            queue = parse(manifest, name)
        except ConfigurationError:
            continue
        yield name, queue


def environment(children: dict[str, dict[str, Any]]) -> dict[str, str]:
    (container,) = [
        one for one in children["Deployment"]["spec"]["template"]["spec"]["containers"] if one["name"] == "worker"
    ]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def test_every_accepted_manifest_gives_settings_that_a_worker_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []
    seen = 0
    for name, queue in accepted():
        seen += 1
        children = {child["kind"]: child for child in children_of(queue)}
        with monkeypatch.context() as patched:
            for variable, value in environment(children).items():
                if "\0" in value:
                    failed.append(f"{name}: {variable} holds a zero byte")
                    continue
                patched.setenv(variable, value)
            patched.setenv("TASKFLEET_QUEUES", children["ConfigMap"]["data"]["queues.json"])
            try:
                settings = config.from_environment()
                assert {one.name for one in config.queue_options().values()} == {one.name for one in queue.spec.queues}
                if not_supported(queue.spec) is None or queue.spec.redis.mode != "Standalone":
                    options_of(settings.redis, url_of(settings.redis))
            except ConfigurationError as error:
                failed.append(f"{name}: {error}")
    assert seen > 150
    assert not failed, "\n".join(failed)
