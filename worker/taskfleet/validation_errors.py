"""Errors of pydantic in one line."""

from __future__ import annotations

import pydantic


def first_problem(error: pydantic.ValidationError, *, skip: int = 0) -> str:
    """The first problem, behind its location without the first `skip` parts, which are not of the data."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"][skip:])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
