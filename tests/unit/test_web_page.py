"""docs/reference/web.md has the fields of every report with their source. `TASKFLEET_WRITE=1` writes it anew."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pydantic
import pytest
from fastapi import FastAPI

from taskfleet import TaskQueue
from taskfleet.integrations.fastapi import answers, router
from taskfleet.integrations.observing import judgement_reports, machine_reports, queue_reports, reports, rules
from taskfleet.integrations.observing.report import Report

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "web.md"
GUIDE = DOCS / "how-to" / "fastapi.md"


def models() -> list[type[Report]]:
    """All reports, in the order of their modules."""
    return [
        model
        for module in (answers, queue_reports, machine_reports, judgement_reports, reports)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Report) and model is not Report
        and model.__module__ == module.__name__
    ]  # fmt: skip


def shape(annotation: Any) -> str:
    """How a field looks in JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"list of {shape(arguments[0])}"
    if origin is dict:
        return "object"
    if arguments and type(None) in arguments:
        return " or ".join([*(shape(each) for each in arguments if each is not type(None)), "null"])
    if origin is not None:
        return " or ".join(f'"{each}"' for each in arguments) if len(arguments) < 4 else "text"
    if isinstance(annotation, type) and issubclass(annotation, Report):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {"str": "text", "bool": "boolean", "int": "whole number", "float": "number", "datetime": "time"}
    return names.get(getattr(annotation, "__name__", ""), "any")


def tables() -> str:
    parts: list[str] = []
    for model in models():
        rows = [
            f"### {model.__name__}",
            "",
            " ".join((model.__doc__ or "").split()),
            "",
            "| field | type | meaning, source |",
            "| --- | --- | --- |",
        ]
        for name, field in model.model_fields.items():
            rows.append(f"| `{name}` | {shape(field.annotation)} | {' '.join((field.description or '').split())} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def test_the_page_has_every_field_of_every_report() -> None:
    head, mark, found = PAGE.read_text(encoding="utf-8").partition("## The reports\n\n")
    assert mark
    if os.environ.get("TASKFLEET_WRITE"):
        PAGE.write_text(head + mark + (found := tables()), encoding="utf-8")
    assert found == tables(), "TASKFLEET_WRITE=1 writes it anew"


def test_the_page_has_every_route() -> None:
    document = FastAPI()
    document.include_router(router(TaskQueue("memory://"), prefix="/x"))
    routes = {f"{method.upper()} {path[2:]}" for path, found in document.openapi()["paths"].items() for method in found}
    routes = {route for route in routes if not route.startswith("POST")} | {"POST /{task}"}
    assert set(re.findall(r"^\| `((?:GET|POST) /[^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.M)) == routes


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_field_says_what_it_is_and_has_no_default(model: type[pydantic.BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())
    # A default would be a figure that nobody has measured.
    assert all(field.is_required() for field in model.model_fields.values())


def test_the_guide_names_every_rule_and_every_threshold() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \| .* \| (?:warning|critical)", guide, re.M)) == set(rules.RULES)
    assert set(re.findall(r"^    (\w+)=", guide.partition("Thresholds(\n")[2].partition("\n)")[0], re.M)) == set(
        rules.Thresholds.__dataclass_fields__
    )
