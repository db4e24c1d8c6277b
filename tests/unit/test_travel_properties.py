"""For any annotation, a value arrives as it was sent."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from taskfleet.errors import SerializationError
from taskfleet.protocol import envelope
from taskfleet.travel.same import same
from taskfleet.travel.value import Value
from tests.support.annotations import Shape, kinds

_DEEP = os.environ.get("TASKFLEET_HYPOTHESIS") == "deep"
_PROFILE = settings(
    max_examples=20_000 if _DEEP else 250,
    deadline=None,
    derandomize=not _DEEP,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def _through_redis(form: Any) -> Any:
    return envelope.unpack(envelope.pack(form))


@_PROFILE
@given(st.data(), kinds())
def test_an_argument_arrives_equal_and_of_its_type_or_is_refused(data: st.DataObject, kind: Shape) -> None:
    value = Value(kind.annotation, "task 't', parameter 'x'")
    sent = data.draw(kind.values)
    note(f"{kind.annotation!r} {sent!r}")
    try:
        form = value.dump(sent)
        packed = envelope.pack(form)
    except (SerializationError, TypeError, OverflowError):
        # `Any` takes messagepack's own types only.
        if kind.annotation not in (Any, int):
            raise
        return
    arrived = value.load(envelope.unpack(packed))
    assert same(arrived, sent), (form, arrived)


@_PROFILE
@given(st.data(), kinds())
def test_a_result_arrives_and_so_does_one_that_is_passed_on(data: st.DataObject, kind: Shape) -> None:
    value = Value(kind.annotation, "task 't', result")
    sent = data.draw(kind.values)
    note(f"{kind.annotation!r} {sent!r}")
    try:
        forms = _through_redis(value.forms_of_result(sent, passed_on=True))
    except (SerializationError, TypeError, OverflowError):
        if kind.annotation not in (Any, int):
            raise
        return
    assert same(value.load(forms[-1]), sent)
