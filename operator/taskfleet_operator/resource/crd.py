"""The CustomResourceDefinition, generated from the models.

`python -m taskfleet_operator.resource.crd` prints it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from .resource_model import ResourceModel, Rule
from .status_schema import TaskQueueStatus
from .taskqueue import GROUP, KIND, PLURAL, VERSION, TaskQueueResource, TaskQueueSpec

Schema = dict[str, Any]

COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
    ("Desired", "integer", ".status.desiredReplicas", 0),
    ("Replicas", "integer", ".status.replicas", 0),
    ("Backlog", "integer", ".status.totalBacklog", 0),
    ("Min", "integer", ".spec.autoscaler.minReplicas", 0),
    ("Max", "integer", ".spec.autoscaler.maxReplicas", 0),
    ("Mode", "string", ".spec.autoscaler.mode", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("InFlight", "integer", ".status.totalInFlight", 1),
    ("Oldest", "integer", ".status.oldestAgeSeconds", 1),
    ("Dead", "integer", ".status.totalDead", 1),
    ("Redis", "string", ".status.conditions[?(@.type=='RedisReachable')].status", 1),
    ("Scaling", "string", ".status.autoscaler.lastDecision.message", 1),
    ("Image", "string", ".spec.worker.image", 1),
)


def definition() -> Schema:
    """The whole CustomResourceDefinition as plain data."""
    spec, status = schema_of(TaskQueueSpec), schema_of(TaskQueueStatus, defaults=False)
    status["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    root: Schema = {
        "type": "object",
        "description": "A queue of tasks in Redis, and the workers that it gets.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},  # named by the rules
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [_validation(rule) for rule in TaskQueueResource.rules],
    }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "taskqueue",
                "shortNames": ["tq"],
                "categories": ["all", "taskfleet"],
            },
            "versions": [version],
        },
    }


def schema_of(model: type[ResourceModel], *, defaults: bool = True) -> Schema:
    """The structural schema of a model: references inlined, rules attached, in the dialect of the API server."""
    generated = model.model_json_schema(by_alias=True, mode="validation")
    models = {m.__name__: m for m in _models(model)}
    return _structural(generated, generated.get("$defs", {}), models, defaults, model.__name__)


def _models(model: type[BaseModel]) -> set[type[ResourceModel]]:
    found: set[type[ResourceModel]] = set()
    pending: list[Any] = [model]
    while pending:
        item = pending.pop()
        if isinstance(item, type) and issubclass(item, ResourceModel):
            if item not in found:
                found.add(item)
                pending += [field.annotation for field in item.model_fields.values()]
        else:
            pending += list(getattr(item, "__args__", ()))
    return found


def _structural(
    schema: Schema, references: Schema, models: dict[str, type[ResourceModel]], defaults: bool, name: str | None = None
) -> Schema:
    schema = dict(schema)
    if "$ref" in schema:
        name = str(schema.pop("$ref")).rsplit("/", 1)[-1]
        # Keywords beside a reference belong to the field. They replace those of the model.
        schema = references[name] | schema
    for dropped in ("title", "$defs", "additionalProperties" if "properties" in schema else "title"):
        schema.pop(dropped, None)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if "anyOf" in schema and len(options) == 1:
        del schema["anyOf"]
        schema |= _structural(options[0], references, models, defaults) | {
            key: value for key, value in schema.items() if key == "default" and value is not None
        }
    if schema.get("default", 0) is None or not defaults:
        schema.pop("default", None)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("type") == "integer":
        schema["format"] = "int64" if schema.get("maximum", 2**31) >= 2**31 else "int32"
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(schema["additionalProperties"], references, models, defaults)
    if "items" in schema:
        schema["items"] = _structural(schema["items"], references, models, defaults)
    if "properties" in schema:
        schema["properties"] = {
            key: _structural(value, references, models, defaults) for key, value in schema["properties"].items()
        }
        if isinstance(schema.get("default"), dict):
            # The whole default, because the API server evaluates the rules on it.
            schema["default"] = {
                key: value["default"] for key, value in schema["properties"].items() if "default" in value
            }
        if name in models:
            for key, text in _docstrings(models[name]).items():
                described = {"description": "", **schema["properties"][key]}
                schema["properties"][key] = described | {"description": _in_one_line(text)}
            if models[name].rules:
                schema["x-kubernetes-validations"] = [_validation(rule) for rule in models[name].rules]
    if "description" in schema:
        schema["description"] = _in_one_line(schema["description"])
    return schema


@functools.cache
def _docstrings(model: type[ResourceModel]) -> dict[str, str]:
    """The docstring below each field, by the field's name in the manifest. Computed on demand, since it takes time."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            alias = model.model_fields[field.target.id].alias or field.target.id
            found[alias] = str(ast.literal_eval(below.value))
    return found


def _in_one_line(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def _validation(rule: Rule) -> Schema:
    return {"rule": rule.cel, "message": rule.message} | ({"fieldPath": rule.field} if rule.field else {})


class _Plain(yaml.SafeDumper):
    """YAML without anchors, for human readers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The YAML file, with a line about its origin."""
    body = yaml.dump(definition(), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated by `make crd` from operator/taskfleet_operator/resource/; do not edit.\n{body}"


if __name__ == "__main__":
    sys.stdout.write(render())
