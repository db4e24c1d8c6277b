"""Prints the OpenAPI document: `python -m taskfleet_dashboard.openapi`. The types of the pages are made from it."""

from __future__ import annotations

import json
from typing import Any, cast

from taskfleet_dashboard.app import application
from taskfleet_dashboard.contract import document_of
from taskfleet_dashboard.serving import Serving


def document() -> dict[str, Any]:
    """The document. It is the same for every dashboard of this version."""
    return document_of(application(cast("Serving", None), hosts=None))


if __name__ == "__main__":
    print(json.dumps(document(), indent=2))
