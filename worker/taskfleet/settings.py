"""The settings of a program: everything that is configured from outside its code.

A file has a section for each class here and a key for each field; the environment has `TASKFLEET_<SECTION>__<KEY>`.
config.py reads both. All durations are seconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from taskfleet import checks
from taskfleet.sections import SettingsSection, setting


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


class RedisSettings(SettingsSection):
    """The address of Redis and the connections to it.

    Exactly one of `url`, `sentinel_addresses` (with `sentinel_master`) and `cluster_addresses` may be set. Password
    files and certificates are read at every connection, so that a rotated secret needs no restart.
    """

    # A secret that was made from a file ends with a newline.
    url: str = setting(default="redis://localhost:6379/0", strip=True)
    """The address of one server, of Sentinels (`redis+sentinel://`), of a Cluster (`redis+cluster://`), or of a queue
    in memory (`memory://name`). The variable is `REDIS_URL`."""

    sentinel_addresses: tuple[str, ...] = setting(default=(), before=_list_of)
    """The Sentinels to ask for the master, as `host:port`: a list, or text with commas. One that answers is enough."""

    sentinel_master: str = setting(default="", pattern=r"^[^/\s]*$")
    """The name under which the Sentinels know the master. They can watch several, so there is no default."""

    sentinel_username: str | None = None
    """The user at the Sentinels, which do not share the users of the master."""

    sentinel_password: str | None = setting(default=None, secret=True)
    """The password at the Sentinels. Without it they are asked without a login."""

    sentinel_password_file: Path | None = None
    """A file with that password, in place of `sentinel_password`."""

    cluster_addresses: tuple[str, ...] = setting(default=(), before=_list_of)
    """Some nodes of a Redis Cluster, as `host:port`: a list, or text with commas. The first that answers names the
    others."""

    pool_size: int = setting(default=10, ge=1, le=10_000)
    """The most connections that one event loop opens to one server, beside the few that it holds for its own calls.
    Calls are combined, so more connections than this rarely help; fewer spare the server's `maxclients`. The
    variable is `REDIS_POOL_SIZE`."""

    connection_timeout: float = setting(default=5.0, gt=0, le=3600)
    """Seconds until an attempt to connect fails. The variable is `REDIS_CONNECTION_TIMEOUT`."""

    command_timeout: float = setting(default=5.0, gt=0, le=3600)
    """Seconds until a call fails that Redis does not answer, and for which a producer tries again while Sentinels or a
    Cluster fail over. It should be far shorter than a lease, or workers lose their tasks while they wait. The variable
    is `REDIS_COMMAND_TIMEOUT`."""

    username: str | None = None
    """The user in Redis' access control list; it overrides that of the URL. Without one, a password logs in as
    `default`."""

    password: str | None = setting(default=None, secret=True)
    """The password of the user; it overrides that of the URL. `repr` and errors leave it out."""

    password_file: Path | None = None
    """A file with that password, in place of `password`. It is also read again when Redis refuses the login."""

    tls: bool = False
    """Encrypt connections. Each of the settings below switches it on as well, and so does `rediss://`."""

    tls_ca_file: Path | None = None
    """Certificates of the authorities that may sign the server's, as PEM. The default is the system's list."""

    tls_cert_file: Path | None = None
    """The certificate with which this program identifies itself, as PEM, if the server asks for one."""

    tls_key_file: Path | None = None
    """The private key of `tls_cert_file`, unless it is in the same file."""

    tls_server_name: str = ""
    """The name in the server's certificate, where it is not the address that the program connects to."""

    tls_check_hostname: bool = True
    """Require that the certificate is of that name. Without it, any certificate of the same authority passes."""

    key_prefix: str = setting(default="taskfleet", pattern=r"^[A-Za-z0-9_.\-]{1,64}$")
    """The start of every key in Redis. Programs with different prefixes share a database without seeing each other."""

    def check(self) -> None:
        given = [name for name in ("url", "sentinel_addresses", "cluster_addresses") if name in self.model_fields_set]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say where Redis is; keep one")
        if bool(self.sentinel_addresses) != bool(self.sentinel_master):
            raise ValueError("sentinel_addresses and sentinel_master need each other")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        if self.sentinel_password is not None and self.sentinel_password_file is not None:
            raise ValueError("sentinel_password and sentinel_password_file are both set; keep one")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs tls_cert_file")


class WorkerSettings(SettingsSection):
    """The workers of a process."""

    initial_count: int = setting(default=1, ge=1, le=1000)
    """How many workers `start_workers()` starts in this process. One uses a whole core of Python; more only separate
    queues or slots. The variable is `TASK_QUEUE_WORKERS`."""

    max_concurrent_tasks: int = setting(default=16, ge=1, le=10_000)
    """The slots of a worker: how many tasks it runs at once. Sixteen suit tasks that wait for databases and services;
    raise it for tasks that only wait, lower it for tasks with much memory."""

    heartbeat_interval: float = setting(default=5.0, gt=0, le=3600)
    """The most seconds between two heartbeats of a worker. A heartbeat renews its leases, so it comes at least three
    times in the shortest lease, and it brings the orders to cancel and to cordon: a cancellation takes this long at
    most."""

    shutdown_grace_period: float = setting(default=30.0, ge=0, le=checks.MOST_SECONDS)
    """Seconds that running tasks get to finish after SIGTERM. Then they are interrupted and go back to their queue.
    Kubernetes' default, after which it kills, is 30 s as well; the operator sets both."""


class SchedulerSettings(SettingsSection):
    """The scheduler that enqueues the tasks of schedules."""

    enabled: bool = True
    """Whether worker processes run a scheduler. Any number of them may: each tick fires once. The variable is
    `TASK_QUEUE_SCHEDULER`."""

    tick_interval: float = setting(default=5.0, gt=0, le=3600)
    """The most seconds until the scheduler looks for due schedules. It knows when the next one is due, and additions
    are announced to it; the interval only matters when an announcement is lost."""

    max_tasks_per_tick: int = setting(default=100, ge=1, le=1000)
    """Tasks that the scheduler adds in one pass over the schedules. The others follow in the next pass, so that one
    call never holds up Redis for long."""


def _split(value: Any) -> Any:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _some(keys: tuple[str, ...]) -> tuple[str, ...]:
    # An empty secret must not switch off the protection that it is for.
    if not all(key.strip() for key in keys) or not keys:
        raise ValueError("it is set and holds an empty key, or none; set a key, or leave it out")
    return keys


class SecuritySettings(SettingsSection):
    """How payloads and results are sealed; docs/how-to/security.md says how keys are rotated.

    Keys in a variable are separated by commas or white space; a file has one key on each line. Files are read at start.
    A setting that is set and holds no key is an error.
    """

    # Secret: printed settings must not give the keys away.
    signing_keys: tuple[str, ...] = setting(default=(), secret=True, before=_split, after=_some)
    """Keys that sign: payloads that no holder of a key has made are refused. The first one signs, all of them verify,
    so that keys can be rotated. Each has at least 16 bytes, or a warning says that it can be guessed."""

    signing_keys_file: Path | None = None
    """A file with signing keys. They come after those of `signing_keys`."""

    encryption_keys: tuple[str, ...] = setting(default=(), secret=True, before=_split, after=_some)
    """Keys of 32 bytes in base64 that encrypt and sign. The first one encrypts, all of them decrypt."""

    encryption_keys_file: Path | None = None
    """A file with encryption keys. They come after those of `encryption_keys`."""

    compression: Literal["zstd"] | None = None
    """Compress large payloads and results before they are sealed. Off by default: the length of compressed data tells a
    little of its content."""

    compression_threshold_bytes: int = setting(default=1024, ge=0)
    """The smallest payload, in bytes, that is compressed. Smaller ones gain less than the processor time they cost."""

    sealing: Literal["require", "write", "read"] = "require"
    """`require` seals and refuses data that is not sealed; `write` seals and accepts both; `read` writes plain data and
    accepts both. The latter two are the steps of a rollout in which nothing is lost."""


class AutoscalerSettings(SettingsSection):
    """How `TaskQueueBuilder.with_autoscaler` sets the number of workers in one process.

    The operator's autoscaler, which sets the number of pods, has settings of its own in the manifest.
    """

    min_workers: int = setting(default=1, ge=1, le=1000)
    """The fewest workers. At least one, since a process without any would never notice new tasks."""

    max_workers: int = setting(default=10, ge=1, le=1000)
    """The most workers."""

    scale_up_threshold: float = setting(default=5.0, gt=0)
    """Ready tasks per worker above which workers are added."""

    scale_down_threshold: float = setting(default=1.0, ge=0)
    """Ready tasks per worker below which workers are drained. The distance to `scale_up_threshold` keeps the number
    from swinging."""

    scale_up_count: int = setting(default=2, ge=1, le=1000)
    """Workers that are added at once."""

    scale_down_count: int = setting(default=1, ge=1, le=1000)
    """Workers that are drained at once: fewer than are added, since a worker too many costs less than one too few."""

    def check(self) -> None:
        if self.min_workers > self.max_workers:
            raise ValueError(f"min_workers={self.min_workers} is more than max_workers={self.max_workers}")
        if self.scale_down_threshold >= self.scale_up_threshold:
            raise ValueError(
                f"scale_down_threshold={self.scale_down_threshold:g} must be less than "
                f"scale_up_threshold={self.scale_up_threshold:g}"
            )


class AutoRegisterSettings(SettingsSection):
    """Discovery of tasks in packages."""

    enabled: bool = True
    """Whether `TaskQueueBuilder.auto_register_tasks` imports anything: a process that only enqueues can save the
    imports. The variable is `TASK_QUEUE_AUTO_REGISTER`."""


class WebSettings(SettingsSection):
    """The routes of `taskfleet.integrations.fastapi.router`."""

    auto_configure_routes: bool = True
    """Whether `router()` has any routes. Switched off, an application serves none of them, without a change of its
    code."""

    route_prefix: str = setting(default="/tasks", pattern=r"^(/[A-Za-z0-9_.~-]+)*$")
    """The path before all routes, where `router()` is given none."""

    enable_metrics: bool = True
    """Whether there are the routes that show figures: `/metrics`, `/registry`, `/alerts`, `/sla`, `/diagnostics` and
    `/uptime`."""

    enable_health_check: bool = True
    """Whether there are `/health` and `/status`."""


class Settings(SettingsSection):
    """All sections, as `taskfleet.config.load()` returns them."""

    redis: RedisSettings = RedisSettings()
    """`[redis]`: the address of Redis and the connections to it."""

    workers: WorkerSettings = WorkerSettings()
    """`[workers]`: the workers of a process."""

    scheduler: SchedulerSettings = SchedulerSettings()
    """`[scheduler]`: the scheduler that enqueues the tasks of schedules."""

    security: SecuritySettings = SecuritySettings()
    """`[security]`: how payloads and results are sealed."""

    autoscaler: AutoscalerSettings = AutoscalerSettings()
    """`[autoscaler]`: the number of workers in one process."""

    auto_register: AutoRegisterSettings = AutoRegisterSettings()
    """`[auto_register]`: discovery of tasks in packages."""

    web: WebSettings = WebSettings()
    """`[web]`: the routes for FastAPI."""
