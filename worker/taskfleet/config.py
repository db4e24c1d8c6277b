"""Reads the settings: the environment overrides `task-queue.toml` or `task-queue.yaml`, and that the defaults."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.options import QueueOptions
from taskfleet.settings import SecuritySettings, Settings

NAMED = {
    "REDIS_URL": ("redis", "url"),
    "REDIS_POOL_SIZE": ("redis", "pool_size"),
    "REDIS_CONNECTION_TIMEOUT": ("redis", "connection_timeout"),
    "REDIS_COMMAND_TIMEOUT": ("redis", "command_timeout"),
    "TASK_QUEUE_WORKERS": ("workers", "initial_count"),
    "TASK_QUEUE_SCHEDULER": ("scheduler", "enabled"),
    "TASK_QUEUE_AUTO_REGISTER": ("auto_register", "enabled"),
}
_FILES = ("task-queue.toml", "task-queue.yaml")


def load(path: str | Path | None = None) -> Settings:
    """Read the settings; `ConfigurationError` names file or variable, key, and the expected form.

    `path` is a TOML or YAML file; without it `task-queue.toml` or `task-queue.yaml` of the current folder is read
    when there is one.
    """
    return _settle(*_read_file(path))


def load_with_origins(path: str | Path | None = None) -> tuple[Settings, dict[tuple[str, str], str]]:
    """As `load`, with where each setting comes from: (section, key) → variable or file. Defaults are not in it."""
    source, data = _read_file(path)
    origins = {
        (section, key): source for section, keys in data.items() if isinstance(keys, dict) for key in keys
    }  # before the environment is written over it
    settings = _settle(source, data)
    return settings, origins | {setting: variable for variable, setting in _from_environment({})}


def from_environment() -> Settings:
    """The environment over the defaults, without a file: the settings of a `TaskQueue(url)`. Errors as for `load`."""
    return _settle("", {})


def _settle(source: str, data: dict[str, Any]) -> Settings:
    origin: dict[tuple[str, ...], str] = {setting: variable for variable, setting in _from_environment(data)}
    try:
        return Settings.model_validate(data)
    except ValueError as refused:  # pydantic's ValidationError, which is not imported before there is one
        error: Any = refused
        problem = error.errors(include_url=False)[0]
        location = tuple(str(part) for part in problem["loc"])
        where = origin.get(location[:2]) or source or "settings"
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            known = _known(location)
            hint = checks.did_you_mean(location[-1], known)
            if location == ("queues",):
                hint = "; options of queues go into the code, TaskQueue(queues=[QueueOptions(…)]), or TASKFLEET_QUEUES"
            raise ConfigurationError(
                f"{where}: unknown key {key!r}; expected one of {', '.join(known)}{hint}"
            ) from None
        raise ConfigurationError(f"{where}: {key}: {_expected(error)}") from None


def _expected(error: Any) -> str:
    from taskfleet.validation_errors import first_problem

    return first_problem(error).split(": ", 1)[-1].removeprefix("Value error, ")


def queue_options() -> dict[str, QueueOptions]:
    """`TASKFLEET_QUEUES`: a JSON list of queue options, which override those in the code. Returns them by name."""
    text = os.environ.get("TASKFLEET_QUEUES")
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"TASKFLEET_QUEUES is not JSON: {error}") from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigurationError('TASKFLEET_QUEUES must be a JSON list of objects, such as [{"name": "default"}]')
    try:
        return QueueOptions.of_all(value, where="the list")
    except ConfigurationError as error:
        raise ConfigurationError(f"TASKFLEET_QUEUES: {error}") from None


def _read_file(path: str | Path | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        path = next((Path(name) for name in _FILES if Path(name).is_file()), None)
        if path is None:
            return "", {}
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from None
    try:
        data = _toml(text) if path.suffix == ".toml" else _yaml(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: expected sections such as [redis] at the top")
    return str(path), data


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "task-queue.yaml needs PyYAML: pip install 'taskfleet[cli]', or use task-queue.toml"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _from_environment(data: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    found: list[tuple[str, tuple[str, str]]] = []
    for variable, value in os.environ.items():
        _check_underscores(variable)
        location = NAMED.get(variable)
        if location is None and variable.startswith("TASKFLEET_") and "__" in variable:
            section, _, key = variable.removeprefix("TASKFLEET_").lower().partition("__")
            location = (section, key)
        if location is None:
            continue
        if location[0] not in Settings.model_fields:
            known = ", ".join(sorted(Settings.model_fields))
            hint = checks.did_you_mean(location[0], Settings.model_fields)
            raise ConfigurationError(f"{variable}: there is no section {location[0]!r}; expected one of {known}{hint}")
        section = data.setdefault(location[0], {})
        if isinstance(section, dict):
            other = next((name for name, setting in found if setting == location), None)
            if other is not None and section[location[1]] != value:
                raise ConfigurationError(f"{other} and {variable} are the same setting with two values; keep one")
            section[location[1]] = value
            found.append((variable, location))
    return found


# An ignored variable with a signing key would leave the queue unsigned. In other sections an application may have its
# own variables, such as TASKFLEET_REDIS_URL.
_ONE_UNDERSCORE = {
    f"TASKFLEET_SECURITY_{key}".upper(): f"TASKFLEET_SECURITY__{key}".upper() for key in SecuritySettings.model_fields
}


def _check_underscores(variable: str) -> None:
    if right := _ONE_UNDERSCORE.get(variable):
        raise ConfigurationError(f"{variable} is read by nobody; write {right}, with two underscores")


def _known(location: tuple[str, ...]) -> list[str]:
    if len(location) == 2:
        section: Any = Settings.model_fields[location[0]].annotation
        return sorted(section.model_fields)
    return sorted(Settings.model_fields)
