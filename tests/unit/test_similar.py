"""Names that are proposed for one that is not known."""

from __future__ import annotations

import pytest

from taskfleet.cli import similar


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("ded8308ef1ee3058238de0", ["ded8308ef1ee3058238df", "ded8308ef1ee3058238e0", "ded8308ef1ee3058238de"], -1),
        ("ded8308e", ["1ed8308ef1ee3058238df", "ded8308ef1ee3058238de"], -1),
        ("mailx", ["mailbox", "mail"], -1),
        ("mial", ["main", "mail"], -1),
        ("mail-of-the-night", ["mail"], None),
        ("noet", ["x", ""], None),
    ],
)
def test_the_name_that_differs_only_at_its_end_comes_first(typed: str, known: list[str], meant: int | None) -> None:
    expected = "" if meant is None else f" (did you mean {known[meant]!r}?)"
    assert similar.hint(typed, known) == expected
    assert similar.hint(typed, reversed(known)) == expected
