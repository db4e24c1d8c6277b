"""JSON that is nested deeper than Python's parser goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskfleet_operator.control.deep_json import loads


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('[{"a":', "}]")])
def test_one_deep_object_does_not_hide_its_neighbours(opening: str, closing: str) -> None:
    deep = nested(opening, closing, 9_000)
    text = f'{{"items": [{{"name": "before"}}, {deep}, {{"name": "a }} b [ \\" {{"}}], "end": true}}'
    with pytest.raises(RecursionError):
        json.loads(text)
    found = loads(text.encode())
    assert found["end"] is True
    assert found["items"][0] == {"name": "before"}
    assert found["items"][2] == {"name": 'a } b [ " {'}
    levels, node = 0, found["items"][1]
    while node is not None:
        node, levels = _inner(node), levels + 1
    assert levels > 100


def _inner(node: Any) -> Any:
    return node[0] if isinstance(node, list) else node["a"]


def test_other_text_is_parsed_as_ever() -> None:
    assert loads(b'{"a": [1, "\\u00e4", null]}') == {"a": [1, "ä", None]}
    with pytest.raises(ValueError, match="Expecting"):
        loads(b"{")
