"""Reading a manifest file. Errors name the field and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import yaml
from pydantic_core import ErrorDetails

from taskfleet.errors import ConfigurationError

from . import kubectl_yaml
from .admission import Problem, admit
from .checks import check
from .taskqueue import API_VERSION, GROUP, KIND, TaskQueueResource, not_supported

_NAME_FIELD = ".metadata.name"


def load_manifest(path: str | Path) -> TaskQueueResource:
    """The TaskQueue in a YAML file. `ConfigurationError` names file, field and remedy in one line."""
    found = read(path)
    if len(found) != 1:
        raise ConfigurationError(f"{_named(path)}: expected one document with kind: {KIND}, found {len(found)}")
    return accept(found[0], _named(path))


def read(path: str | Path) -> list[dict[str, Any]]:
    """The TaskQueues in a YAML file, or in standard input for `-`, unchecked; other objects in it are left out."""
    try:
        text = _standard_input() if str(path) == "-" else Path(path).read_text(encoding="utf-8")
        documents = list(kubectl_yaml.documents(text))
    except OSError as error:
        raise ConfigurationError(f"{_named(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{_named(path)}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{_named(path)}: is not YAML: {_where(error)}") from None
    except RecursionError:
        raise ConfigurationError(f"{_named(path)}: is not YAML that anybody reads: too many levels") from None
    return [one for document in documents for one in _objects(document) if _is_ours(one)]


def _where(error: yaml.YAMLError) -> str:
    """What PyYAML says, in one line, without its name for a text that it got from us."""
    return " ".join(str(error).replace(' in "<unicode string>",', " at").split())


def _standard_input() -> str:
    if not sys.stdin:  # closed: Python has none then, whatever its types say
        raise ConfigurationError("standard input: is closed")
    return sys.stdin.read()


def _objects(document: Any) -> Iterator[dict[str, Any]]:
    """The object of a document, or those of a List, as `kubectl get -o yaml` writes it."""
    items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else [document]
    yield from (one for one in (items if isinstance(items, list) else []) if isinstance(one, dict))


def _is_ours(one: dict[str, Any]) -> bool:
    # A wrong kind in our group is a typing error, which would pass for an object of somebody else.
    return one.get("kind") == KIND or str(one.get("apiVersion")).startswith(f"{GROUP}/")


def accept(document: dict[str, Any], source: str) -> TaskQueueResource:
    """The TaskQueue in a mapping, checked like `parse` and for what no schema can say."""
    queue = parse(document, source)
    if problem := not_supported(queue.spec):
        raise ConfigurationError(f"{source}: {problem}")
    for finding in check(queue.spec):
        raise ConfigurationError(f"{source}: {finding}")
    return queue


def _named(path: str | Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def parse(document: dict[str, Any], source: str) -> TaskQueueResource:
    """The TaskQueue in a mapping, with the API server's verdict; `source` begins the message of an error."""
    for field, problem in _not_ours(document):
        raise ConfigurationError(f"{source}: {field}: {problem}")
    admitted, wrong = admit(document)
    if wrong:
        path, message = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigurationError(f"{source}: {path}: {message}{more}")
    try:
        return TaskQueueResource.model_validate(admitted)
    except pydantic.ValidationError as error:
        raise ConfigurationError(f"{source}: {problems(error)}") from None


def all_problems(document: dict[str, Any]) -> list[Problem]:
    """Everything that is wrong with a TaskQueue, as (path of the field, what is wrong); empty for a valid one.

    As in the API server, the rules of a block are judged when the types of its fields are right.
    """
    if foreign := next(_not_ours(document), None):
        return [foreign]
    admitted, found = admit(document)
    found += [problem for problem in _bad_name(admitted) if problem[0] not in dict(found)]
    try:
        spec = TaskQueueResource.model_validate(admitted).spec
    except pydantic.ValidationError as error:
        for each in error.errors(include_url=False):
            path, message = _problem(each)
            if not found or (each["type"] == "value_error" and (path, message) not in found and path):
                found.append((path, message))
        return found
    if not found and (problem := not_supported(spec)):
        path, _, message = problem.partition(": ")
        found.append((path, message))
    known = dict(found)
    return found + [(finding.field, finding.message) for finding in check(spec) if finding.field not in known]


def _not_ours(document: dict[str, Any]) -> Iterator[Problem]:
    """What makes it another resource than a TaskQueue."""
    for field, expected in (("kind", KIND), ("apiVersion", API_VERSION)):
        found = document.get(field)
        if found is None:
            yield field, f"is required: {expected}"
        elif found != expected:
            yield field, f"expected {expected}, found {found!r}"


def _bad_name(document: dict[str, Any]) -> Iterator[Problem]:
    """The rules about the name, which pydantic leaves out while another field is wrong."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        return
    named: Any = SimpleNamespace(metadata=SimpleNamespace(name=name))
    for rule in TaskQueueResource.rules:
        if rule.field == _NAME_FIELD and rule.check is not None and not rule.check(named):
            yield _NAME_FIELD.removeprefix("."), rule.message.removeprefix(f"{_NAME_FIELD[1:]} ")


def problems(error: pydantic.ValidationError) -> str:
    """The first problem as `field: remedy`, and the number of further ones."""
    errors = error.errors(include_url=False)
    path, message = _problem(errors[0])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def _problem(first: ErrorDetails) -> Problem:
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        message = message.removeprefix(f"{first['loc'][-1]}: ")  # a rule names its block, like the path
    if first["type"] == "extra_forbidden":
        message = "is not a field of the resource; check its spelling"
    elif first["type"] == "missing":
        message = "is required"
    elif first["type"] == "string_pattern_mismatch":
        message = f"{first['input']!r} does not match {first.get('ctx', {}).get('pattern')}"
    return _path(first["loc"]), message


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        # The location of a union's member has the branch in it, which is no field of the manifest.
        if isinstance(part, str) and ("[" in part or part in {"int", "str"}):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
