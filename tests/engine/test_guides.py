"""The scripts in the guides print the output that the guides show."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from taskfleet_operator.resource.manifest import load_manifest
from tests.engine.conftest import MakeQueue

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
_SCRIPT = re.compile(r"```python\n(# \w+\.py\n.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("guide", ["middleware", "dependencies", "batches", "progress", "workflows"])
async def test_the_script_of_a_guide_prints_the_shown_output(make_queue: MakeQueue, tmp_path: Path, guide: str) -> None:
    scripts = _SCRIPT.findall((GUIDES / f"{guide}.md").read_text(encoding="utf-8"))
    assert scripts
    for source, _ in scripts:  # one may import another
        (tmp_path / source.split()[1]).write_text(source, encoding="utf-8")
    queue = make_queue()
    environment = {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    for source, expected in scripts:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(tmp_path / source.split()[1]),
            env=os.environ | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, out.decode()) == (0, expected), err.decode()


def _files(page: Path) -> dict[str, str]:
    """The files of a page: code blocks whose first line is a comment with the file name."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```\w+\n# ([\w/]+\.\w+)\n(.*?)```", text, re.DOTALL)
    return dict(blocks)


async def test_the_quickstart_prints_the_shown_output(make_queue: MakeQueue, tmp_path: Path) -> None:
    page = GUIDES.parent / "quickstart.md"
    files = _files(page)
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    queue = make_queue()
    environment = os.environ | {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    command = (sys.executable, "-m", "taskfleet", "worker", "shop.tasks:queue")
    worker = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment)
    try:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "send.py", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(program.communicate(), 60)
    finally:
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 60) == 0
    expected = page.read_text(encoding="utf-8").partition("$ python send.py\n")[2]
    assert program.returncode == 0
    assert out
    assert expected.startswith(out.decode())
    assert load_manifest(tmp_path / "taskqueue.yaml").spec.worker.app == "shop.tasks:queue"
