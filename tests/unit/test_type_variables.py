"""Type variables with defaults, and the markers of typing_extensions, where that library is not imported."""

from __future__ import annotations

import subprocess
import sys
import typing
from typing import Any

import pytest
import typing_extensions

from taskfleet.tasks.signature import Signature


@pytest.mark.parametrize(
    "written",
    [
        "Message[int]", "Message[int, str]", "TaskHandle[int]", "GroupHandle[tuple[int, str]]", "BatchItem[int]",
        "list[Message[int]]", "Message", "GroupHandle", "BatchItem",
    ],
)  # fmt: skip
def test_a_type_can_be_written_without_its_defaults(written: str) -> None:
    """Annotations may be evaluated, and aliases always are."""
    names = "BatchItem, GroupHandle, Message, TaskHandle"
    code = f"import sys; from taskfleet import {names}; print({written}); assert 'typing_extensions' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class Options(typing.TypedDict, total=False):
    copies: int


@pytest.mark.parametrize("marker", [typing.Unpack, typing_extensions.Unpack])
def test_options_can_be_unpacked_with_either_marker(marker: Any) -> None:
    async def show(first: int, **options: Any) -> None: ...

    signature = Signature(show, "show", hints={"first": int, "options": marker[Options], "return": None})
    assert signature.dump((1,), {"copies": 2}) == ([1], {"copies": 2})
    with pytest.raises(Exception, match="copies"):
        signature.dump((1,), {"copies": "many"})
