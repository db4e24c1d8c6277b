"""The scripts in the guides print what the guides say."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import MakeQueue

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
_SCRIPT = re.compile(r"```python\n(# \w+\.py\n.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("guide", ["middleware", "dependencies", "batches", "progress"])
async def test_the_script_of_a_guide_prints_what_it_says(make_queue: MakeQueue, tmp_path: Path, guide: str) -> None:
    scripts = _SCRIPT.findall((GUIDES / f"{guide}.md").read_text(encoding="utf-8"))
    assert scripts
    queue = make_queue()
    environment = {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    for source, expected in scripts:
        path = tmp_path / source.split()[1]
        path.write_text(source, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(path),
            env=os.environ | environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, out.decode()) == (0, expected), err.decode()
