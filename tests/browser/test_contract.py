"""The world of the fixture server has the shapes of the real API, and the generated types are those of the server."""

from __future__ import annotations

import json

import pytest

from taskfleet_dashboard import openapi
from taskfleet_dashboard.answers.answer import Answer
from taskfleet_dashboard.answers.dead import DeadAnswer, DeadPageAnswer, JobAnswer
from taskfleet_dashboard.answers.fleet import SchedulesAnswer, WorkersAnswer
from taskfleet_dashboard.answers.overview import OverviewAnswer
from taskfleet_dashboard.answers.queues import AllKeysAnswer, HistoryAnswer, QueueAnswer
from taskfleet_dashboard.answers.scalers import AuditAnswer, DecisionAnswer, ExplainAnswer, ScalerAnswer, WhatIfAnswer
from taskfleet_dashboard.answers.session import SessionAnswer
from taskfleet_dashboard.answers.tasks import GraphAnswer, TaskAnswer, TaskPageAnswer
from tests.browser.conftest import FRONT
from tests.browser.world import World

WORLD = World()
WORLD.start("discard", {"ids": ["dead-0001"]})

BODIES = [
    (SessionAnswer, WORLD.session()), (OverviewAnswer, WORLD.overview()), (QueueAnswer, WORLD.queue("default")),
    (HistoryAnswer, WORLD.history("7d")), (TaskPageAnswer, WORLD.tasks()), (TaskAnswer, WORLD.task("a")),
    (TaskAnswer, WORLD.task("dead-0001")), (GraphAnswer, WORLD.graph("a")), (DeadPageAnswer, WORLD.dead({})),
    (DeadAnswer, WORLD.dead_letter("dead-0001")), (JobAnswer, WORLD.jobs["job-1"]),
    (SchedulesAnswer, WORLD.schedules()),
    (WorkersAnswer, WORLD.workers()), (AllKeysAnswer, WORLD.keys()), (ScalerAnswer, WORLD.scaler("shop/orders")),
    (ScalerAnswer, WORLD.scaler("shop/orders", "24h")), (DecisionAnswer, WORLD.decision("shop/orders", "")),
    (WhatIfAnswer, WORLD.what_if("shop/orders", {})), (ExplainAnswer, WORLD.explain("shop/orders")),
    (AuditAnswer, WORLD.audit()),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body"), BODIES, ids=[model.__name__ for model, _ in BODIES])
def test_a_body_of_the_fixture_server_is_one_of_the_api(model: type[Answer], body: object) -> None:
    model.model_validate(body)
    fields = {field.alias or name for name, field in model.model_fields.items()}
    assert isinstance(body, dict)
    assert set(body) == fields, "no field more, none less"


def test_the_document_that_the_types_are_made_from_is_that_of_the_server() -> None:
    kept = json.loads((FRONT / "openapi.json").read_text())
    assert kept == json.loads(json.dumps(openapi.document())), "the API has changed: run `make dashboard`"
