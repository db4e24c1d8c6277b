"""The errors of values that cannot be sent."""

from __future__ import annotations

import sys


class UnfitError(Exception):
    """A value has no typed form, or a typed form is no value of the known classes."""


def problem_of(error: Exception, *, skip: int = 0) -> str:
    """Any error in one line; the location in a validation error loses its first `skip` parts."""
    if "pydantic" in sys.modules:  # else the error is none of pydantic's, which is not imported for it
        import pydantic

        from taskfleet.validation_errors import first_problem

        if isinstance(error, pydantic.ValidationError):
            return first_problem(error, skip=skip)
        if isinstance(error, pydantic.PydanticUserError):
            return " ".join(str(error).split())
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or in itself"
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    if isinstance(error, (UnfitError, ValueError, TypeError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
