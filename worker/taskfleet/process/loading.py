"""Loading of the application from `module:attribute`, with the file and line of an error in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType

from taskfleet import describing
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.process import requests
from taskfleet.queue import TaskQueue

_LIBRARY = str(Path(__file__).parents[1]) + os.sep


class BrokenApplicationError(ConfigurationError):
    """The application raised an exception during its import; `trace` is the traceback without Taskfleet's frames."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


def load_app(path: str) -> TaskQueue:
    """The `TaskQueue` at `module:attribute`; `ConfigurationError` names the wrong part of the path."""
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigurationError(f"APP {path!r}: write module:attribute, such as shop.tasks:queue")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with requests.ending_at_once():
        module = import_module(module_name, f"APP {path!r}: ")
        queue = getattr(module, attribute, None)
    known = [name for name, value in vars(module).items() if isinstance(value, TaskQueue)]
    if queue is None:
        import difflib  # for errors only

        near = difflib.get_close_matches(attribute, known or list(vars(module)), 1) or known[:1]
        raise ConfigurationError(f"APP {path!r}: module {module_name!r} has no {attribute!r}{_did_you_mean(near)}")
    if not isinstance(queue, TaskQueue):
        kind = f"{attribute!r} is a {type(queue).__name__}, not a TaskQueue"
        raise ConfigurationError(f"APP {path!r}: {kind}{_did_you_mean(known[:1])}")
    return queue


def import_module(name: str, why: str = "") -> ModuleType:
    """The module of that name. Errors: `ConfigurationError`, which begins with `why` it was needed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if _last(_frames(error)) is None and (name == missing or name.startswith(missing + ".")):
            known = f"{why}there is no module {(missing if why else name)!r} on the path{_did_you_mean(_near(missing))}"
            raise ConfigurationError(f"{known}; run this where it can be imported, or set PYTHONPATH") from None
        raise _broken(name, why, error, f"no module {missing!r}") from error
    except TaskQueueError as error:
        # An error of Taskfleet has a one-line text but does not know the line of the application.
        location = _last(_frames(error))
        if location is None:
            raise
        raise ConfigurationError(f"{why}{location}: {describing.text_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise _broken(name, why, error) from error


def _broken(name: str, why: str, error: BaseException, what: str = "") -> BrokenApplicationError:
    location = _last(_frames(error))
    if isinstance(error, SyntaxError) and error.filename:
        location = f"{_short(error.filename)}:{error.lineno}"
        what = (
            f"{describing.name_of(type(error))}: {describing.text_of(SyntaxError(error.msg))}"  # its place comes once
        )
    message = f"{why}importing {'it' if why else repr(name)} failed: {what or describing.describe(error)}"
    message += f" ({location})" if location else ""
    trace = describing.trace(error.with_traceback(next(_frames(error), None)))
    return BrokenApplicationError(message, trace)


def _frames(error: BaseException) -> Iterator[TracebackType]:
    """The frames of an error that belong to the application, outermost first."""
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        ours = file.startswith(_LIBRARY) or str(frame.tb_frame.f_globals.get("__name__", "")).startswith("taskfleet.")
        if not ours and not file.startswith("<frozen importlib") and not file.endswith(f"importlib{os.sep}__init__.py"):
            yield frame
        frame = frame.tb_next


def _last(frames: Iterator[TracebackType]) -> str | None:
    found = list(frames)
    return f"{_short(found[-1].tb_frame.f_code.co_filename)}:{found[-1].tb_lineno}" if found else None


def _short(file: str) -> str:
    return os.path.relpath(file) if file.startswith(os.getcwd() + os.sep) else file


def _near(name: str) -> list[str]:
    """A module with a similar name, found by the same search."""
    import difflib  # for errors only
    import pkgutil

    package, _, last = name.rpartition(".")
    paths = getattr(sys.modules.get(package), "__path__", None) if package else [os.getcwd()]
    known = [found.name for found in pkgutil.iter_modules(paths)] if paths else []
    return [f"{package}.{near}" if package else near for near in difflib.get_close_matches(last, known, 1)]


def _did_you_mean(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""
