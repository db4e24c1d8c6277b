"""The tree that the docstring of `taskfleet.errors` draws is the tree of the classes."""

from __future__ import annotations

import re

from taskfleet import errors
from taskfleet.errors import TaskQueueError

_LINE = re.compile(r"^ {4}((?:[│ ] {3})*)(?:[├└]── )?(\w+)")


def drawn() -> set[tuple[str, str]]:
    """(class, its parent) of every line of the tree; the root has no parent."""
    tree: set[tuple[str, str]] = set()
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not (found := _LINE.match(line)):
            continue
        depth = len(found[1]) // 4 + ("─" in line)
        path[depth:] = [found[2]]
        tree.add((found[2], path[depth - 1] if depth else ""))
    return tree


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    classes = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)}
    tree = {(error.__name__, "" if error is TaskQueueError else error.__bases__[0].__name__) for error in classes}
    assert drawn() == tree
