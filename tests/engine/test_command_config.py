"""`taskfleet config show`, `taskfleet completion`, and the first moments of the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.test_command import run

TOML = """
[redis]
url = "redis://:filed@h/1"

[workers]
# initial_count is said in the environment
initial_count = 3
max_concurrent_tasks = 4
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    return tmp_path


async def shown(*arguments: str, **environment: str) -> dict[str, tuple[object, str]]:
    code, out, errors = await run("config", "show", "--origin", "--json", *arguments, **environment)
    assert code == 0, errors
    return {each["name"]: (each["value"], each["origin"]) for each in json.loads(out)["items"]}


async def test_each_value_is_shown_with_its_origin(folder: Path) -> None:
    (folder / "task-queue.toml").write_text(TOML)
    found = await shown(TASK_QUEUE_WORKERS="7", TASKFLEET_REDIS__KEY_PREFIX="shop", TASKFLEET_LOG_LEVEL="debug")
    assert found["redis.url"] == ("redis://:***@h/1", "task-queue.toml:3")
    assert found["workers.initial_count"] == (7, "TASK_QUEUE_WORKERS")
    assert found["workers.max_concurrent_tasks"] == (4, "task-queue.toml:8")
    assert found["redis.key_prefix"] == ("shop", "TASKFLEET_REDIS__KEY_PREFIX")
    assert found["redis.pool_size"] == (10, "default")
    assert found["log_level"] == ("debug", "TASKFLEET_LOG_LEVEL")
    assert (await shown("--redis", "redis://u:p@x/2"))["redis.url"] == ("redis://u:***@x/2", "--redis")
    (folder / "task-queue.toml").unlink()
    (folder / "task-queue.yaml").write_text("redis:\n  url: redis://y/2\nworkers: {initial_count: 2}\n")
    found = await shown()
    assert found["redis.url"] == ("redis://y/2", "task-queue.yaml:2")
    assert found["workers.initial_count"] == (2, "task-queue.yaml")  # written in another way: the file alone


async def test_no_secret_is_shown(folder: Path) -> None:
    secret = {
        "REDIS_URL": "redis://user:hidden-1@h/0?password=hidden-2",
        "TASKFLEET_REDIS__PASSWORD": "hidden-3",
        "TASKFLEET_REDIS__SENTINEL_PASSWORD": "hidden-4",
        "TASKFLEET_SECURITY__SIGNING_KEYS": "hidden-5-hidden-5",
    }
    for arguments in (["--json"], ["--origin"], []):
        code, out, errors = await run("config", "show", *arguments, **secret)
        assert code == 0, errors
        assert "hidden" not in out + errors
        assert "***" in out
        assert "user" in out


async def test_a_table_of_settings_fits_80_columns(folder: Path) -> None:
    code, out, _ = await run("config", "show", "--origin", REDIS_URL="redis://" + "h" * 100 + ":6379/0")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" in out


async def test_a_bad_setting_is_one_line(folder: Path) -> None:
    code, out, errors = await run("config", "show", REDIS_POOL_SIZE="many")
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert "REDIS_POOL_SIZE: redis.pool_size: " in errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_script_of_a_shell_completes_commands_and_options(shell: str) -> None:
    code, out, errors = await run("completion", shell)
    assert (code, errors) == (0, "")
    assert "_TASKFLEET_COMPLETE" in out
    _, out, _ = await run("completion", "basch")
    assert out == ""
    asked = {"_TASKFLEET_COMPLETE": "complete_bash", "COMP_WORDS": "taskfleet dead ", "COMP_CWORD": "2"}
    code, out, errors = await run(**asked)
    assert (code, out.split()) == (0, ["list", "show", "requeue", "purge"]), errors
    asked |= {"COMP_WORDS": "taskfleet queues --j", "COMP_CWORD": "2"}
    assert (await run(**asked))[1].split() == ["--json"]


def test_the_command_hears_signals_before_it_imports_the_library() -> None:
    """Process 1 of a container drops signals without a handler, so the handler must be there at once."""
    script = (
        "import signal, sys\n"
        "def told(number, handler):\n"
        "    big = {name.split('.')[0] for name in sys.modules} & {'asyncio', 'pydantic', 'redis', 'typer'}\n"
        "    print(number == signal.SIGTERM, sorted(big))\n"
        "    raise SystemExit\n"
        "signal.signal = told\n"
        "import taskfleet.cli; taskfleet.cli.main()\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    assert out == "True []\n"
