"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from taskfleet.version import __version__


def document_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: the same for every dashboard of this version."""
    return get_openapi(
        title=app.title, version=__version__, routes=app.routes, separate_input_output_schemas=False,
        description="The API of the dashboard. Errors are `{\"error\": \"one line\"}` with the status that fits.",
    )  # fmt: skip
