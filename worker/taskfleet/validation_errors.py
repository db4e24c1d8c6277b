"""Errors of pydantic in one line."""

from __future__ import annotations

import pydantic


def first_problem(error: pydantic.ValidationError, *, skip: int = 0) -> str:
    """The first problem, after its location.

    The first `skip` parts of the location are omitted: they are not in the data.
    """
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"][skip:])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
