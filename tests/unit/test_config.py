from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from pathlib import Path

import pytest

from taskfleet import ConfigurationError, TaskQueue, config
from taskfleet.config import NAMED
from taskfleet.sections import SettingsSection
from taskfleet.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "TASKFLEET_QUEUES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_environment_overrides_the_file_and_that_the_defaults(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "task-queue.toml").write_text('[redis]\nurl = "redis://file:1/0"\npool_size = 3\n')
    monkeypatch.setenv("REDIS_URL", "redis://environment:2/0")
    monkeypatch.setenv("TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD", "7")
    settings = config.load()
    assert settings.redis.url == "redis://environment:2/0"
    assert settings.redis.pool_size == 3
    assert settings.redis.connection_timeout == 5.0
    assert settings.workers.shutdown_grace_period == 7
    assert TaskQueue.from_config().url == "redis://environment:2/0"


def test_yaml_is_read_too(elsewhere: Path) -> None:
    (elsewhere / "task-queue.yaml").write_text("workers: {max_concurrent_tasks: 9}\n")
    assert config.load().workers.max_concurrent_tasks == 9


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.toml", "[redis]\nurll = 'x'\n", "a.toml: unknown key 'redis.urll'; expected one of"),
        ("a.toml", "[rediss]\n", "a.toml: unknown key 'rediss'"),
        ("a.toml", "[redis]\npool_size = 0\n", "a.toml: redis.pool_size: Input should be greater than or equal to 1"),
        ("a.toml", "[redis\n", "a.toml: "),
        ("a.yaml", "a: [", "a.yaml: "),
        ("a.yaml", "- 1\n", "a.yaml: expected sections"),
        ("missing.toml", None, "missing.toml: cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_key(
    elsewhere: Path, name: str, text: str | None, problem: str
) -> None:
    path = elsewhere / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        config.load(path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_POOL_SIZE", "many")
    with pytest.raises(ConfigurationError, match=r"^REDIS_POOL_SIZE: redis\.pool_size: .*integer"):
        config.load()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'url = "redis://h"\ncluster_addresses = ["c:1"]',
            "url and cluster_addresses both say where Redis is; keep one",
        ),
        ('sentinel_addresses = ["s:1"]', "sentinel_addresses and sentinel_master need each other"),
        ('password = "a"\npassword_file = "b"', "password and password_file are both set; keep one"),
        ('tls_key_file = "k"', "tls_key_file needs tls_cert_file"),
    ],
)
def test_settings_of_redis_that_contradict_each_other_are_refused(elsewhere: Path, text: str, problem: str) -> None:
    path = elsewhere / "task-queue.toml"
    path.write_text(f"[redis]\n{text}\n")
    with pytest.raises(ConfigurationError) as caught:
        config.load(path)
    assert str(caught.value) == f"{path}: redis: {problem}"


def test_addresses_in_a_variable_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_REDIS__SENTINEL_ADDRESSES", "s0:26379, s1")
    monkeypatch.setenv("TASKFLEET_REDIS__SENTINEL_MASTER", "main")
    assert TaskQueue.from_config().url == "redis+sentinel://s0:26379,s1:26379/main"


def test_queue_options_of_the_environment_override_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_QUEUES", '[{"name": "a", "priority": 5, "dead_letter": {"max_length": 7}}]')
    queue = TaskQueue(queues=["a", "b"])
    assert queue.application.options_of("a").priority == 5
    assert queue.application.options_of("a").dead_letter.max_length == 7
    assert queue.application.options_of("b").priority == 0
    monkeypatch.setenv("TASKFLEET_QUEUES", "{")
    with pytest.raises(ConfigurationError, match="TASKFLEET_QUEUES is not JSON"):
        TaskQueue()


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", "redis://h:port/0"])
def test_a_bad_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Redis URL"):
        TaskQueue(url)


def test_unknown_queue_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown key 'priorty'"):
        TaskQueue(queues=[{"name": "a", "priorty": 1}])
    with pytest.raises(ConfigurationError, match="'a b' is not valid"):
        TaskQueue(queues=["a b"])


def test_the_sections_of_the_all_in_one_process_are_read(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "task-queue.toml").write_text("[autoscaler]\nmax_workers = 3\n[auto_register]\nenabled = true\n")
    monkeypatch.setenv("TASK_QUEUE_AUTO_REGISTER", "off")
    monkeypatch.setenv("TASKFLEET_AUTOSCALER__MIN_WORKERS", "2")
    settings = config.load()
    assert (settings.autoscaler.min_workers, settings.autoscaler.max_workers) == (2, 3)
    assert settings.auto_register.enabled is False
    monkeypatch.setenv("TASKFLEET_AUTOSCALER__MIN_WORKERS", "4")
    with pytest.raises(ConfigurationError, match=r"autoscaler: .*min_workers=4 is more than max_workers=3") as caught:
        config.load()
    assert str(caught.value).startswith("task-queue.toml: ")


SETTINGS = {
    "REDIS_POOL_SIZE": ("redis", "pool_size", "3", 3),
    "REDIS_COMMAND_TIMEOUT": ("redis", "command_timeout", "1.5", 1.5),
    "REDIS_CONNECTION_TIMEOUT": ("redis", "connection_timeout", "2", 2.0),
    "TASK_QUEUE_WORKERS": ("workers", "initial_count", "4", 4),
    "TASK_QUEUE_SCHEDULER": ("scheduler", "enabled", "off", False),
    "TASKFLEET_REDIS__KEY_PREFIX": ("redis", "key_prefix", "other", "other"),
    "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": ("workers", "shutdown_grace_period", "1", 1.0),
    "TASKFLEET_WORKERS__MAX_CONCURRENT_TASKS": ("workers", "max_concurrent_tasks", "5", 5),
    "TASKFLEET_SCHEDULER__TICK_INTERVAL": ("scheduler", "tick_interval", "9", 9.0),
    "TASKFLEET_SECURITY__SEALING": ("security", "sealing", "write", "write"),
}


@pytest.mark.parametrize("variable", SETTINGS)
@pytest.mark.parametrize("url", ["redis://code:1/0", "memory://code", None])
def test_the_environment_is_read_even_if_the_code_gives_the_url(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str | None
) -> None:
    section, key, text, value = SETTINGS[variable]
    monkeypatch.setenv(variable, text)
    assert getattr(getattr(TaskQueue(url).settings, section), key) == value
    monkeypatch.setenv(variable, "\n")
    with pytest.raises(ConfigurationError, match=f"^{variable}: {section}.{key}: ") as caught:
        TaskQueue(url)
    assert "\n" not in str(caught.value)


def test_an_argument_in_the_code_overrides_the_environment(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://environment:2/0")
    monkeypatch.setenv("REDIS_POOL_SIZE", "3")
    assert TaskQueue("redis://code:1/0").url == "redis://code:1/0"
    assert TaskQueue().url == "redis://environment:2/0"
    assert TaskQueue.from_config(url="redis://code:1/0").url == "redis://code:1/0"
    # `settings=` is used as it is: neither environment nor file overrides it.
    assert TaskQueue(settings=Settings()).settings.redis.pool_size == 10
    # Only `from_config` reads a file.
    (elsewhere / "task-queue.toml").write_text("[workers]\nshutdown_grace_period = 7\n")
    assert TaskQueue().settings.workers.shutdown_grace_period == 30
    assert TaskQueue.from_config().settings.workers.shutdown_grace_period == 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[workers]\nshutdown_grace_period = nan", "workers.shutdown_grace_period: Input should be a finite number"),
        ("[workers]\nshutdown_grace_period = -1", "workers.shutdown_grace_period: Input should be greater"),
        ("[workers]\nshutdown_grace_period = 1e12", "workers.shutdown_grace_period: Input should be less"),
        ("[workers]\nheartbeat_interval = inf", "workers.heartbeat_interval: Input should be a finite number"),
        ("[workers]\nmax_concurrent_tasks = true", "workers.max_concurrent_tasks: expected a number, not True"),
        ("[workers]\nmax_concurrent_tasks = 1.5", "workers.max_concurrent_tasks: Input should be a valid integer"),
        ("[redis]\npool_size = 1000000000", "redis.pool_size: Input should be less"),
        ("[redis]\ncommand_timeout = true", "redis.command_timeout: expected a number, not True"),
        ("[redis]\npassword_file = ''", "redis.password_file: it is set and empty"),
        ("[scheduler]\ntick_interval = nan", "scheduler.tick_interval: Input should be a finite number"),
        ("[autoscaler]\nscale_up_threshold = nan", "autoscaler.scale_up_threshold: Input should be a finite number"),
        ("[worker]\nx = 1", "unknown key 'worker'; expected one of"),
        ("[queues.default]\npriority = 1", "TaskQueue(queues=[QueueOptions(…)])"),
        ("[redis]\nx = 1", "expected one of cluster_addresses, "),
        ("[worker]\nx = 1", "(did you mean 'workers'?)"),
        ("[workers]\ngrace_period = 1", "unknown key 'workers.grace_period'"),
        ("[workers]\nshutdown_graceperiod = 1", "(did you mean 'shutdown_grace_period'?)"),
    ],
)
def test_a_setting_is_checked(elsewhere: Path, text: str, problem: str) -> None:
    (elsewhere / "task-queue.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue.from_config()
    assert problem in str(caught.value)
    assert str(caught.value).startswith("task-queue.toml: ")


def test_a_section_that_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as inside:
        inside.setenv("TASKFLEET_NOPE__X", "1")
        with pytest.raises(ConfigurationError, match=r"^TASKFLEET_NOPE__X: .*'nope'; expected one of auto.*workers$"):
            TaskQueue()
    TaskQueue()
    monkeypatch.setenv("TASKFLEET_WORKER__SHUTDOWN_GRACE_PERIOD", "1")
    with pytest.raises(ConfigurationError, match=r"^TASKFLEET_WORKER__SHUTDOWN_GRACE_PERIOD: .*did you mean 'workers'"):
        TaskQueue()


def test_two_variables_for_one_setting_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_POOL_SIZE", "3")
    monkeypatch.setenv("TASKFLEET_REDIS__POOL_SIZE", "3")
    assert TaskQueue().settings.redis.pool_size == 3
    monkeypatch.setenv("TASKFLEET_REDIS__POOL_SIZE", "4")
    with pytest.raises(ConfigurationError, match="are the same setting with two values; keep one"):
        TaskQueue()


def _documented(cls: type[SettingsSection]) -> set[str]:
    """The fields of a section that a docstring follows."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id
        for field, after in itertools.pairwise(tree.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }


SECTIONS = {name: field.annotation for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("section", [Settings, *SECTIONS.values()])
def test_each_setting_has_a_docstring(section: type[SettingsSection]) -> None:
    assert _documented(section) == section.model_fields.keys()


@pytest.mark.parametrize("variable", list(NAMED))
def test_a_setting_with_a_variable_of_its_own_names_it(variable: str) -> None:
    section, key = NAMED[variable]
    source = inspect.getsource(SECTIONS[section])
    docstring = source.split(f"\n    {key}: ")[1].split('"""')[1]
    assert f"`{variable}`" in docstring
