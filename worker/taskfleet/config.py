"""Settings: environment over `task-queue.toml` or `task-queue.yaml` over defaults."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.options import QueueOptions
from taskfleet.travel.value import first_problem

_NAMED = {
    "REDIS_URL": ("redis", "url"),
    "REDIS_POOL_SIZE": ("redis", "pool_size"),
    "REDIS_CONNECTION_TIMEOUT": ("redis", "connection_timeout"),
    "REDIS_COMMAND_TIMEOUT": ("redis", "command_timeout"),
    "TASK_QUEUE_WORKERS": ("workers", "initial_count"),
    "TASK_QUEUE_SCHEDULER": ("scheduler", "enabled"),
    "TASK_QUEUE_AUTO_REGISTER": ("auto_register", "enabled"),
}
_FILES = ("task-queue.toml", "task-queue.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _means_something(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        annotation: Any = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation in (int, float):
            raise ValueError(f"expected a number, not {value}")
        if annotation in (Path, Path | None) and isinstance(value, str) and not value.strip():
            raise ValueError("it is set and empty; name a file, or leave it out")
        return value


Addresses = Annotated[tuple[str, ...], pydantic.BeforeValidator(lambda value: _list_of(value))]


class RedisSettings(_Section):
    """Timeouts in seconds. Password files and certificates are read when a connection is made.

    Exactly one of `url`, `sentinel_addresses` (with `sentinel_master`) and `cluster_addresses` says where Redis is.
    Addresses are `host:port`, as a list or between commas.
    """

    # A secret that was made from a file ends with a newline.
    url: Annotated[str, StringConstraints(strip_whitespace=True)] = "redis://localhost:6379/0"
    sentinel_addresses: Addresses = ()
    sentinel_master: str = Field(default="", pattern=r"^[^/\s]*$")
    sentinel_username: str | None = None
    sentinel_password: str | None = Field(default=None, repr=False)
    sentinel_password_file: Path | None = None
    cluster_addresses: Addresses = ()
    pool_size: int = Field(default=10, ge=1, le=10_000)
    connection_timeout: float = Field(default=5.0, gt=0, le=3600)
    command_timeout: float = Field(default=5.0, gt=0, le=3600)
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    password_file: Path | None = None
    tls: bool = False
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_server_name: str = ""
    tls_check_hostname: bool = True
    key_prefix: str = Field(default="taskfleet", pattern=r"^[A-Za-z0-9_.\-]{1,64}$")

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        places = [name for name in ("url", "sentinel_addresses", "cluster_addresses") if name in self.model_fields_set]
        if len(places) > 1:
            raise ValueError(f"{' and '.join(places)} both say where Redis is; keep one")
        if bool(self.sentinel_addresses) != bool(self.sentinel_master):
            raise ValueError("sentinel_addresses and sentinel_master need each other")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        if self.sentinel_password is not None and self.sentinel_password_file is not None:
            raise ValueError("sentinel_password and sentinel_password_file are both set; keep one")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs tls_cert_file")
        return self


class WorkerSettings(_Section):
    """`heartbeat_interval` and `shutdown_grace_period` in seconds."""

    initial_count: int = Field(default=1, ge=1, le=1000)
    max_concurrent_tasks: int = Field(default=16, ge=1, le=10_000)
    heartbeat_interval: float = Field(default=5.0, gt=0, le=3600)
    shutdown_grace_period: float = Field(default=30.0, ge=0, le=checks.MOST_SECONDS)


class SchedulerSettings(_Section):
    """Whether worker processes let the schedules tick, and how they look.

    `tick_interval` (seconds): the longest that a scheduler goes without looking; what is added or replaced is announced
    to it, so this only matters when an announcement is lost. `max_tasks_per_tick`: tasks added in one pass over the
    schedules; what is left follows in the next.
    """

    enabled: bool = True
    tick_interval: float = Field(default=5.0, gt=0, le=3600)
    max_tasks_per_tick: int = Field(default=100, ge=1, le=1000)


def _split(value: Any) -> Any:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _some(keys: tuple[str, ...]) -> tuple[str, ...]:
    # An empty secret must not switch off what it is there for.
    if not all(key.strip() for key in keys) or not keys:
        raise ValueError("it is set and holds an empty key, or none; set a key, or leave it out")
    return keys


_KeysBetweenCommas = Annotated[tuple[str, ...], BeforeValidator(_split), pydantic.AfterValidator(_some)]


class SecuritySettings(_Section):
    """How payloads are sealed; docs/how-to/security.md says how keys are rotated.

    Keys in a variable are separated by commas or white space, in a file they stand one a line; files are read at start.
    What is set and holds no key is an error.
    """

    # repr=False: what is printed of the settings must not give the keys away.
    signing_keys: _KeysBetweenCommas = Field(default=(), repr=False)
    signing_keys_file: Path | None = None
    encryption_keys: _KeysBetweenCommas = Field(default=(), repr=False)
    encryption_keys_file: Path | None = None
    compression: Literal["zstd"] | None = None
    compression_threshold_bytes: int = Field(default=1024, ge=0)
    sealing: Literal["require", "write", "read"] = "require"


class AutoscalerSettings(_Section):
    """How `TaskQueueBuilder.with_autoscaler` sets the number of workers in a process.

    With more than `scale_up_threshold` ready tasks for each worker, `scale_up_count` are added; with less than
    `scale_down_threshold`, `scale_down_count` are drained.
    """

    min_workers: int = Field(default=1, ge=1, le=1000)
    max_workers: int = Field(default=10, ge=1, le=1000)
    scale_up_threshold: float = Field(default=5.0, gt=0)
    scale_down_threshold: float = Field(default=1.0, ge=0)
    scale_up_count: int = Field(default=2, ge=1, le=1000)
    scale_down_count: int = Field(default=1, ge=1, le=1000)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers={self.min_workers} is more than max_workers={self.max_workers}")
        if self.scale_down_threshold >= self.scale_up_threshold:
            raise ValueError(
                f"scale_down_threshold={self.scale_down_threshold:g} must be less than "
                f"scale_up_threshold={self.scale_up_threshold:g}"
            )
        return self


class AutoRegisterSettings(_Section):
    """Whether `TaskQueueBuilder.auto_register_tasks` imports anything."""

    enabled: bool = True


class Settings(_Section):
    """Everything that is configured from outside the code."""

    redis: RedisSettings = RedisSettings()
    workers: WorkerSettings = WorkerSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    security: SecuritySettings = SecuritySettings()
    autoscaler: AutoscalerSettings = AutoscalerSettings()
    auto_register: AutoRegisterSettings = AutoRegisterSettings()


def load(path: str | Path | None = None) -> Settings:
    """Read the settings; `ConfigurationError` names file or variable, key, and what was expected.

    `path` is a TOML or YAML file; without it `task-queue.toml` or `task-queue.yaml` of the current folder is read
    when there is one.
    """
    return _settle(*_read_file(path))


def from_environment() -> Settings:
    """The settings of the environment over the defaults: what a `TaskQueue(url)` has. Errors as `load`'s."""
    return _settle("", {})


def _settle(source: str, data: dict[str, Any]) -> Settings:
    origin: dict[tuple[str, ...], str] = {place: variable for variable, place in _from_environment(data)}
    try:
        return Settings.model_validate(data)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        location = tuple(str(part) for part in problem["loc"])
        where = origin.get(location[:2]) or source or "settings"
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            known = _known(location)
            raise ConfigurationError(
                f"{where}: unknown key {key!r}; expected one of {known}{checks.did_you_mean(location[-1], known)}"
            ) from None
        raise ConfigurationError(f"{where}: {key}: {_expected(error)}") from None


def _expected(error: pydantic.ValidationError) -> str:
    return first_problem(error).split(": ", 1)[-1].removeprefix("Value error, ")


def queue_options() -> dict[str, QueueOptions]:
    """`TASKFLEET_QUEUES`: a JSON list of queue options that stands above those in the code. Options by name."""
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


def _list_of(value: Any) -> Any:
    """A list from the environment is JSON, or its items between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("expected a JSON list or items between commas") from None
    return [item.strip() for item in value.split(",") if item.strip()]


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
        data = tomllib.loads(text) if path.suffix == ".toml" else _yaml(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: expected sections such as [redis] at the top")
    return str(path), data


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError("task-queue.yaml needs PyYAML: install it, or use task-queue.toml") from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _from_environment(data: dict[str, Any]) -> list[tuple[str, tuple[str, str]]]:
    found: list[tuple[str, tuple[str, str]]] = []
    for variable, value in os.environ.items():
        _check_underscores(variable)
        location = _NAMED.get(variable)
        if location is None and variable.startswith("TASKFLEET_") and "__" in variable:
            section, _, key = variable.removeprefix("TASKFLEET_").lower().partition("__")
            location = (section, key)
        if location is None:
            continue
        if location[0] not in Settings.model_fields:
            # Others may have variables like ours; what is all but ours is a slip.
            if hint := checks.did_you_mean(location[0], Settings.model_fields):
                raise ConfigurationError(f"{variable}: there is no section {location[0]!r}{hint}")
            continue
        section = data.setdefault(location[0], {})
        if isinstance(section, dict):
            other = next((name for name, place in found if place == location), None)
            if other is not None and section[location[1]] != value:
                raise ConfigurationError(f"{other} and {variable} are the same setting with two values; keep one")
            section[location[1]] = value
            found.append((variable, location))
    return found


# A key that nobody reads is a queue that runs unsigned. In other sections a program may well have a variable of its
# own, such as TASKFLEET_REDIS_URL, and read it itself.
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
