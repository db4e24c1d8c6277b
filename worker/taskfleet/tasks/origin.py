"""Where a task was defined, and in which run of that code: whether a second definition is the first one once more.

A name means one task. Code that defines one may still run again in its own place: a module is reloaded, or imported
under a second name; a notebook's cell is run again; a test has ended, and the next one defines its own. Whatever else
defines a taken name (a factory called twice, a decorator without `functools.wraps`, a copied block) is a second task.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

_NOT_USERS = frozenset({"taskfleet", "pydantic", "abc"})  # packages with frames between a definition and its author
_TOP_LEVEL = ("<module>", "<cell line: ")  # the latter is what some versions of IPython call a cell's code
_LOCAL = "<locals>"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """One definition, seen from the top-level code (a module, a script, a cell) that was running when it was made."""

    qualname: str
    site: str  # file:line that asked for the definition
    caller: str  # the line that called the function which that is in
    code: CodeType | None  # the top-level code; None in a thread of its own
    namespace: dict[str, Any] | None  # its globals
    statement: int  # where that code was
    file: str | None  # of a module or script; None for a cell, and for what else comes from no file
    at_top: bool  # made by that code itself, and not by a function that it called
    test: object | None  # the pytest test that was running

    @property
    def is_of_test(self) -> bool:
        """Whether a pytest test has made it, and not a module that the test has imported."""
        return self.test is not None and not (self.file and self.at_top)

    def replaces(self, other: Origin) -> bool:
        """Whether this is the definition `other` once more."""
        if other.is_of_test and other.test is not self.test:
            return True  # made by a test that has ended
        if self.code is None:
            return False  # nothing runs again in a thread of its own
        if self.code is not other.code or self.namespace is not other.namespace:
            if self.file is not None:
                return self.file == other.file  # reloaded, or imported under a second name
            if self.namespace is not other.namespace:
                return False
            return self._rebinds(other) or self.code == other.code
        return self.file is None and self.statement == other.statement and self._rebinds(other)

    def _rebinds(self, other: Origin) -> bool:
        """Whether the same global name is defined again, as a cell does that is run again, its code changed or not."""
        return self.qualname == other.qualname and _LOCAL not in self.qualname


_test: object | None = None


def enter_test(test: object | None) -> object | None:
    """A pytest test begins; `None` when it has ended, and for what is made for several. Returns what was before."""
    global _test
    before, _test = _test, test
    return before


def origin_of(thing: Any) -> Origin:
    """The origin of a function or class that is being defined as a task by the caller."""
    site: FrameType | None = sys._getframe(1)
    while site is not None and _module(site).partition(".")[0] in _NOT_USERS:
        site = site.f_back
    top = site
    while top is not None and not top.f_code.co_name.startswith(_TOP_LEVEL):
        top = top.f_back
    return Origin(
        qualname=getattr(thing, "__qualname__", type(thing).__qualname__),
        site=_line(site),
        caller=_line(site if site is None or site is top else site.f_back),
        code=None if top is None else top.f_code,
        namespace=None if top is None else top.f_globals,
        statement=-1 if top is None else top.f_lasti,
        file=None if top is None else _file(top),
        at_top=site is top,
        test=_test,
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _line(frame: FrameType | None) -> str:
    return "a thread" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _file(top: FrameType) -> str | None:
    """The file that this top-level code is, without its ending; `None` for code that only runs among a file's names."""
    name, source = top.f_globals.get("__file__"), top.f_code.co_filename
    if not isinstance(name, str) or _stem(name) != _stem(source):
        return None
    return os.path.splitext(os.path.realpath(name))[0]


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
