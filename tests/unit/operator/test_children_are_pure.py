"""A builder never writes into what it is given: the informer's own objects are behind it, a write would roll."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_operator.children import children_of
from taskfleet_operator.children.strategic_merge import strategic
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import changed

KEYS = st.sampled_from(
    ["metadata", "spec", "labels", "annotations", "containers", "env", "name", "value", "volumes", "worker", "a", "b"]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["worker", "tmp", "REDIS_URL", "x"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
NAMED = st.fixed_dictionaries(
    {"name": st.sampled_from(["worker", "sidecar"])}, optional={"env": VALUES, "args": VALUES}
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=4)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": MAPS, "annotations": MAPS}),
        "spec": st.fixed_dictionaries({}, optional={"containers": st.lists(NAMED, max_size=2), "volumes": VALUES}),
    },
)


def spoil(value: Any) -> None:
    """Change every map and every list in a value."""
    if isinstance(value, dict):
        for one in list(value.values()):
            spoil(one)
        value["spoilt"] = True
    elif isinstance(value, list):
        for one in value:
            spoil(one)
        value.append("spoilt")


@settings(deadline=None)
@given(template=TEMPLATES, labels=st.dictionaries(st.sampled_from(["team", "env"]), st.just("x")))
def test_three_calls_give_one_result_and_the_input_stays(template: dict[str, Any], labels: dict[str, str]) -> None:
    body = changed(
        {
            "metadata.annotations": {"prometheus.io/scrape": "true"},
            "spec.worker.template": template,
            "spec.worker.metadata": {"labels": labels, "annotations": labels},
        }
    )
    before = copy.deepcopy(body)
    queue = TaskQueueResource.model_validate(body)
    parsed = queue.model_copy(deep=True)
    first = children_of(queue, {"s/k": "1"})
    second = children_of(queue, {"s/k": "1"})
    assert first == second
    spoil(first)  # whoever gets the children may change them: nothing of the resource is in them
    assert children_of(queue, {"s/k": "1"}) == second
    assert queue == parsed
    assert body == before


@settings(deadline=None)
@given(base=VALUES, patch=VALUES)
def test_a_merge_shares_nothing_with_either_side(base: Any, patch: Any) -> None:
    kept = copy.deepcopy((base, patch))
    spoil(strategic(base, patch))
    assert (base, patch) == kept


def test_an_annotation_of_the_template_gives_one_hash() -> None:
    """It was returned as the patch's own dict, the hash was written into it, and the next hash included that."""
    body = changed({"spec.worker.template": {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}}})
    hashes = set()
    for _ in range(3):
        (deployment,) = [
            one for one in children_of(TaskQueueResource.model_validate(body)) if one["kind"] == "Deployment"
        ]
        hashes.add(deployment["spec"]["template"]["metadata"]["annotations"]["taskfleet.io/config-hash"])
    assert len(hashes) == 1


def test_a_template_without_end_is_refused_and_not_walked() -> None:
    template: dict[str, Any] = {}
    for _ in range(900):
        template = {"spec": template}
    with pytest.raises(ValueError, match="more than 64 levels deep"):
        TaskQueueResource.model_validate(changed({"spec.worker.template": template}))
