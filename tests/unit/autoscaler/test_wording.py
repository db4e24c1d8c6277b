"""Each reason and each limit of a decision has its words, also on the dashboard's pages."""

from __future__ import annotations

import re
from pathlib import Path

from taskfleet_operator.autoscaler.wording import LIMITS, REASONS

ROOT = Path(__file__).parents[3]
OPERATOR = ROOT / "operator" / "taskfleet_operator"
NAME = r'"([A-Z][A-Za-z]+)"'


def decided(*calls: str) -> set[str]:
    """The names that the code of decisions gives in these places."""
    sources = [*(OPERATOR / "autoscaler").glob("*.py"), *(OPERATOR / "scaling").glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != "wording.py")
    found = [match for call in calls for match in re.findall(call, text)]
    return {name for match in found for name in re.findall(NAME, match)}


def on_the_pages(table: str) -> set[str]:
    """The keys of a table of `words.ts`."""
    text = (ROOT / "dashboard" / "front" / "src" / "words.ts").read_text(encoding="utf-8")
    body = re.search(rf"const {table}: Record<string, string> = {{\n(.*?)\n}};", text, re.DOTALL)
    assert body is not None
    return set(re.findall(r"^  (\w+): ", body[1], re.MULTILINE))


def test_every_limit_has_words() -> None:
    named = decided(r"draft\.limit\((.*)\)", r"\.held\((.*)\)", r"limited_by=(.*)")
    assert {"TooManyReplicas", "Cooldown", "ForceActivation", "RolloutUnderWay", "BusyPodNotReady"} <= named
    assert named == set(LIMITS) == on_the_pages("LIMITS")


def test_every_reason_has_words() -> None:
    named = decided(
        r"draft\.reason(?:, draft\.\w+)? = (.*)", r"draft\.finish\([^\n]*", r"draft\.finish\(\n([^\n]*)",
        r"reason, formula = (.*)", r"reason=(.*)", r"Wanted\((.*)\)",
    )  # fmt: skip
    assert {"DrainTime", "Idle", "WithinTolerance", "SampleFailed", "Paused"} <= named
    assert named == set(REASONS) == on_the_pages("REASONS")
