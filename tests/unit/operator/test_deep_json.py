"""JSON that is nested deeper than Python's parser goes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from taskfleet_operator.control.api.deep_json import loads
from taskfleet_operator.control.store.compacting import compacted


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize("levels", [190, 300, 500, 900, 9_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")])
def test_one_deep_object_does_not_hide_its_neighbours(opening: str, closing: str, levels: int) -> None:
    deep = nested(opening, closing, levels)
    text = f'{{"items": [{{"name": "before"}}, {deep}, {{"name": "a }} b [ \\" {{"}}], "end": true}}'
    found = loads(text.encode())
    assert found["end"] is True
    assert found["items"][0] == {"name": "before"}
    assert found["items"][2] == {"name": 'a } b [ " {'}
    compacted(copy.deepcopy({"metadata": {}, "spec": found}))
    depth, node = 0, found["items"][1]
    while isinstance(node, (dict, list)):
        node, depth = _inner(node), depth + 1
    assert depth > 100
    assert (node == 1) == (levels < 200 and opening != '[{"a":'), "what is not too deep is whole"


def _inner(node: Any) -> Any:
    return node[0] if isinstance(node, list) else node["a"]


def test_other_text_is_parsed_as_ever() -> None:
    assert loads(b'{"a": [1, "\\u00e4", null]}') == {"a": [1, "ä", None]}
    with pytest.raises(ValueError, match="Expecting"):
        loads(b"{")
