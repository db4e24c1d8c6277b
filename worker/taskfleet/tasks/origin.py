"""The origin of a task: the code that defined it, and the run of that code.

A name means one task, but the code that defines it may run again: a module is reloaded, or imported under a second
name; a notebook's cell is run again; the next test defines its own tasks. Such a definition replaces the first one. Any
other definition of a taken name is a second task, and an error: a factory that is called twice, a decorator without
`functools.wraps`, a copied block.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

_NOT_USERS = frozenset({"taskfleet", "pydantic", "abc"})  # packages with frames between a definition and its author
_TOP_LEVEL = ("<module>", "<cell line: ")  # the latter names a cell's code in some versions of IPython
_LOCAL = "<locals>"


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The origin of one definition: the top-level code (a module, a script, a cell) that was running, and its lines."""

    qualname: str
    site: str  # file:line that asked for the definition
    caller: str  # file:line that called the function around it
    code: CodeType | None  # the top-level code; None in a thread
    namespace: dict[str, Any] | None  # the globals of that code
    statement: int  # the instruction at which it was
    file: str | None  # of a module or script; None for a cell and other code without a file
    at_top: bool  # that code itself defines the task, not a function that it called
    test: object | None  # the pytest test that was running

    @property
    def is_of_test(self) -> bool:
        """Whether a pytest test defined it, and not a module that the test imported."""
        return self.test is not None and not (self.file and self.at_top)

    def replaces(self, other: Origin) -> bool:
        """Whether this replaces the definition `other`, since its code has run again."""
        if other.is_of_test and other.test is not self.test:
            return True  # the test that defined it has ended
        if self.code is None:
            return False  # a thread runs its code once
        if self.code is not other.code or self.namespace is not other.namespace:
            if self.file is not None:
                return self.file == other.file  # reloaded, or imported under a second name
            if self.namespace is not other.namespace:
                return False
            return self._rebinds(other) or self.code == other.code
        return self.file is None and self.statement == other.statement and self._rebinds(other)

    def _rebinds(self, other: Origin) -> bool:
        """Whether both assign the same global name, as a cell does when it is run again, changed or not."""
        return self.qualname == other.qualname and _LOCAL not in self.qualname


_test: object | None = None


def enter_test(test: object | None) -> object | None:
    """Note that a pytest test begins, or with `None` that it has ended. Returns the previous one."""
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
    """The file of this top-level code, without its suffix; `None` for code that only runs in a file's namespace."""
    name, source = top.f_globals.get("__file__"), top.f_code.co_filename
    if not isinstance(name, str) or _stem(name) != _stem(source):
        return None
    return os.path.splitext(os.path.realpath(name))[0]


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
