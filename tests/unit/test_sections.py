"""Sections of settings: plain values are read without pydantic, and as pydantic reads them."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest

from taskfleet import validated_sections
from taskfleet.sections import SettingsSection
from taskfleet.settings import RedisSettings, SecuritySettings, Settings, WorkerSettings

SECTIONS: dict[str, type[SettingsSection]] = {name: each.annotation for name, each in Settings.model_fields.items()}
SETTINGS = [(section, name) for section, cls in SECTIONS.items() for name in cls.model_fields]
VALUES: list[Any] = [
    *("", " ", "\n", "0", "1", "-1", "3", " 3", "3\n", "007", "+4", "1_0", "1.5", ".5", "5.", "1e3", "nan", "inf"),
    *("true", "True", "ON", "off", "No", "y", "t", "2", "abc", "a b", "a,b", '["a", "b"]', "[", "0x10"),
    *("redis://h:1/0", " redis://h ", "zstd", "require", "write", "Require"),
    *("/tasks", "/a/b", "a/b", "/a\n", "taskfleet\n", "x" * 65, "9" * 30, "²", "٣"),
    *(None, True, False, 0, 1, 5, -1, 10_000, 10_001, 10**20, 1.0, 1.5, 0.0, -0.5, 1e9, float("nan"), float("inf")),
    *((), [], ("a",), ["a", "b"], ["a", 1], [""], {"a": 1}, {"a"}, b"a", Path("a"), Path(), object()),
]  # fmt: skip


def plain(cls: type[SettingsSection], name: str, value: Any) -> Any:
    """What the section makes of a value without pydantic; None when it leaves it to pydantic."""
    with pytest.MonkeyPatch.context() as patched:

        def leaves(*_: Any, **__: Any) -> Any:
            raise LookupError

        patched.setattr(validated_sections, "values_of", leaves)
        try:
            return cls(**{name: value})
        except LookupError:
            return None


@pytest.mark.parametrize(("section", "name"), SETTINGS)
def test_a_value_that_is_read_as_plain_is_what_pydantic_makes_of_it(section: str, name: str) -> None:
    cls = SECTIONS[section]
    for value in VALUES:
        made = plain(cls, name, value)
        if made is not None:
            values, given = validated_sections.values_of(cls, {name: value})
            assert made == cls.of_values(values, given), value
            assert list(map(type, vars(made).values())) == [*map(type, values.values()), frozenset], value
            assert made.model_fields_set == given == {name}


@pytest.mark.parametrize(("section", "name"), SETTINGS)
def test_the_default_and_its_text_are_plain(section: str, name: str) -> None:
    cls = SECTIONS[section]
    default = cls.model_fields[name].default
    if default not in (None, ()) or "keys" not in name:
        assert plain(cls, name, default) is not None or name.endswith("_keys")
    if isinstance(default, (int, float, str)):
        assert plain(cls, name, str(default)) is not None


@pytest.mark.parametrize(
    ("data", "location", "says"),
    [
        ({"redis": {"pool_size": 0}}, ("redis", "pool_size"), "Input should be greater than or equal to 1"),
        ({"redis": {"pool": 1}}, ("redis", "pool"), "Extra inputs are not permitted"),
        ({"rediss": {}}, ("rediss",), "Extra inputs are not permitted"),
        ({1: {}}, ("1",), "Keys should be strings"),
        ({"redis": 3}, ("redis",), "Input should be a valid dictionary"),
        ({"redis": WorkerSettings()}, ("redis",), "Input should be a valid dictionary"),
        ({"redis": WorkerSettings(initial_count=2)}, ("redis",), "Input should be a valid dictionary"),
        ({"workers": {"initial_count": True}}, ("workers", "initial_count"), "expected a number, not True"),
        ({"redis": {"tls_ca_file": " "}}, ("redis", "tls_ca_file"), "it is set and empty"),
        ({"redis": {"sentinel_master": "m"}}, ("redis",), "need each other"),
        ({"redis": RedisSettings(), "workers": {"initial_count": 0}}, ("workers", "initial_count"), "greater"),
    ],
)
def test_an_error_names_section_and_setting(data: Any, location: tuple[str, ...], says: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings.model_validate(data)
    (problem,) = caught.value.errors()
    assert tuple(map(str, problem["loc"])) == location
    assert says in problem["msg"]


def test_what_only_pydantic_reads_stands_beside_what_is_plain() -> None:
    redis = RedisSettings(url="redis://h", tls=True)
    read = Settings.model_validate({"redis": redis, "workers": {"initial_count": " 3 ", "heartbeat_interval": "2"}})
    assert read.redis == redis
    assert read.redis.model_fields_set == {"url", "tls"}
    assert (read.workers.initial_count, read.workers.heartbeat_interval) == (3, 2.0)
    assert read.model_fields_set == {"redis", "workers"}
    with pytest.raises(pydantic.ValidationError):
        WorkerSettings.model_validate({"initial_count": "3"}, strict=True)


def test_a_section_is_a_value() -> None:
    one, other = RedisSettings(pool_size=3, password="s3cret"), RedisSettings(password="s3cret", pool_size=3)
    assert one == other
    assert hash(one) == hash(other)
    assert one != RedisSettings(pool_size=3)
    assert "s3cret" not in repr(one)
    assert "s3cret" not in repr(Settings(redis=one))
    assert "pool_size=3" in repr(one)
    with pytest.raises(AttributeError, match="cannot be changed"):
        one.pool_size = 4  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(one, "pool_size")
    given: dict[str, Any] = {"self": 3}
    with pytest.raises(pydantic.ValidationError, match="Extra inputs are not permitted"):
        RedisSettings(**given)
    changed = one.model_copy(update={"url": "redis://other"})
    assert (changed.url, changed.pool_size, one.url) == ("redis://other", 3, "redis://localhost:6379/0")
    assert changed.model_fields_set == {"pool_size", "password", "url"}
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied == one
        assert copied.model_fields_set == one.model_fields_set
    assert Settings(redis=one).model_dump()["redis"]["pool_size"] == 3


def test_defaults_and_plain_variables_need_no_pydantic() -> None:
    program = (
        "import os, sys\n"
        "os.environ |= {'REDIS_POOL_SIZE': '3', 'TASK_QUEUE_SCHEDULER': 'off', 'REDIS_COMMAND_TIMEOUT': '1.5',\n"
        "  'TASKFLEET_REDIS__PASSWORD_FILE': '/etc/secret', 'TASKFLEET_SECURITY__SIGNING_KEYS': 'a b'}\n"
        "from taskfleet import config\n"
        "read = config.load()\n"
        "print(read.redis.pool_size, read.scheduler.enabled, read.redis.password_file, read.security.signing_keys)\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["3 False /etc/secret ('a', 'b')", "False"]


def test_every_limit_is_one_of_pydantics() -> None:
    """Also where the value is plain: on either side of each limit."""
    for cls in SECTIONS.values():
        for name, each in cls.model_fields.items():
            for limit, by in itertools.product(set(each.limits) - {"pattern"}, (-1, 0, 1)):
                value = each.annotation(each.limits[limit] + by)
                made = plain(cls, name, value)
                try:
                    values, given = validated_sections.values_of(cls, {name: value})
                except pydantic.ValidationError:
                    assert made is None, (name, value)
                else:
                    assert made is None or made == cls.of_values(values, given), (name, value)


def test_keys_are_secret() -> None:
    assert "0123456789abcdef" not in repr(SecuritySettings(signing_keys=("0123456789abcdef",)))
