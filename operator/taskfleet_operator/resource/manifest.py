"""Reading a manifest file. Errors name the field and how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pydantic
import yaml

from taskfleet.errors import ConfigurationError

from . import kubectl_yaml
from .admission import admit
from .checks import check
from .taskqueue import API_VERSION, KIND, TaskQueueResource, not_supported


def load_manifest(path: str | Path) -> TaskQueueResource:
    """The TaskQueue in a YAML file. `ConfigurationError` names file, field and remedy in one line."""
    found = read(path)
    if len(found) != 1:
        raise ConfigurationError(f"{_named(path)}: expected one document with kind: {KIND}, found {len(found)}")
    return accept(found[0], _named(path))


def read(path: str | Path) -> list[dict[str, Any]]:
    """The TaskQueues in a YAML file, or in standard input for `-`, unchecked; other objects in it are left out."""
    try:
        text = sys.stdin.read() if str(path) == "-" else Path(path).read_text(encoding="utf-8")
        documents = list(kubectl_yaml.documents(text))
    except OSError as error:
        raise ConfigurationError(f"{_named(path)}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{_named(path)}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{_named(path)}: is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigurationError(f"{_named(path)}: is not YAML that anybody reads: too many levels") from None
    return [one for one in documents if isinstance(one, dict) and one.get("kind") == KIND]


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
    version = document.get("apiVersion")
    if version != API_VERSION:
        raise ConfigurationError(f"{source}: apiVersion: expected {API_VERSION}, found {version!r}")
    admitted, wrong = admit(document)
    if wrong:
        path, message = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConfigurationError(f"{source}: {path}: {message}{more}")
    try:
        return TaskQueueResource.model_validate(admitted)
    except pydantic.ValidationError as error:
        raise ConfigurationError(f"{source}: {problems(error)}") from None


def problems(error: pydantic.ValidationError) -> str:
    """The first problem as `field: remedy`, and the number of further ones."""
    errors = error.errors(include_url=False)
    first = errors[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        message = message.removeprefix(f"{first['loc'][-1]}: ")  # a rule names its block, like the path
    if first["type"] == "extra_forbidden":
        message = "is not a field of the resource; check its spelling"
    elif first["type"] == "missing":
        message = "is required"
    elif first["type"] == "string_pattern_mismatch":
        message = f"{first['input']!r} does not match {first.get('ctx', {}).get('pattern')}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{_path(first['loc'])}: {message}{more}" if first["loc"] else f"{message}{more}"


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        # The location of a union's member has the branch in it, which is no field of the manifest.
        if isinstance(part, str) and ("[" in part or part in {"int", "str"}):
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
