"""examples/primes/README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.conftest import MakeExample

pytestmark = pytest.mark.timeout(300)  # beside other work


def test_processes_and_threads_count_the_same_primes_and_a_timeout_ends_a_process(example: MakeExample) -> None:
    primes = example("primes")
    dev = primes.start("taskfleet dev primes:queue --concurrency 4")
    dev.says("is ready")
    output = primes.run("python compare.py")

    assert re.findall(r"in (\w+): (\d+) primes below (\d+)", output) == [
        ("threads", "41538", "500000"),
        ("processes", "41538", "500000"),
    ]
    assert "failed: it ran longer than its timeout of 3 s" in output
    [gone] = re.findall(r"^its process (\d+) is gone$", output, re.MULTILINE)
    assert dev.process.poll() is None
    assert not Path(f"/proc/{gone}").exists()
    primes.shows(output)
