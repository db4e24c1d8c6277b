"""The rules for code blocks hold: a block that is wrong, or that nothing runs, is an error that names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import formats, output
from tests.docs.blocks import REPOSITORY, parse
from tests.docs.story import Story

PAGE = REPOSITORY / "docs" / "a-page.md"

GREET = """
```python
# tasks.py
from taskfleet import TaskQueue

queue = TaskQueue.from_config()


@queue.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"
```
"""

GOOD = {
    "a snippet after a hidden one": "<!-- hidden: python\nx = 1\n-->\n```python\nprint(x + 1)\n```\n\n```text\n2\n```",
    "await at the top level": "```python\nimport asyncio\nprint(await asyncio.sleep(0, 7))\n```\n```text\n7\n```",
    "a file that a later snippet imports": '```python\n# a.py\nx = "a"\n```\n```python\nfrom a import x\n```',
    "a file that runs": "```python\n# a.py\nprint(3)\n```\n\n```text\n3\n```",
    "a variable that a later command sees": "```sh\nexport A=1\n```\n```console\n$ echo $A\n1\n```",
    "lines that are left out": "```console\n$ printf 'a\\nb\\nc\\n'\na\n…\n```",
    "a command that goes on below": "```console\n$ echo a \\\n    b\na b\n```",
    "a command that fails as shown": "```console\n$ ls /nowhere\nls: …\n```",
    "an id in a later command": (
        "```console\n$ echo 0000000000000000a\nffffffffffffffff0\n$ echo ffffffffffffffff0 | wc -c\n18\n"
        "$ echo ffffffffffffffff0 | cut -c17\na\n```"
    ),
    "output of a server": "```sh\ntail -f /dev/null &\n```",
    "what is not run": "<!-- needs: cluster -->\n```sh\nkubectl get pods\n```",
    "a fragment of a TaskQueue": "```yaml\nspec:\n  worker:\n    drainTimeoutSeconds: 5\n```",
    "a configuration": '```toml\n[redis]\nurl = "redis://localhost:6379/0"\n```',
    "a worker that is interrupted": GREET
    + "```console\n$ taskfleet enqueue greet --app tasks:queue --args '[\"Ada\"]'\n00000000000000001\n"
    "$ taskfleet worker tasks:queue\n2026-01-01 00:00:00,000 INFO taskfleet.worker worker …\n^C\n"
    "$ taskfleet task show 00000000000000001\nid …\n…\n```",
}
WRONG = {
    "another output": ("```python\nprint(1)\n```\n```text\n2\n```", "docs/a-page.md:5"),
    "more output": ("```python\nprint(1)\nprint(2)\n```\n```text\n1\n```", "docs/a-page.md:6"),
    "an error": ("```python\n1 / 0\n```", r"(?s)docs/a-page.md:2.*ZeroDivisionError"),
    "an error of an import": ("```python\n# a.py\n1 / 0\n```", "(?s)docs/a-page.md:2.*ZeroDivisionError"),
    "a wrong doctest": ("```python\n>>> 1 + 1\n3\n```", "docs/a-page.md:2"),
    "text that nothing prints": ("```text\nhello\n```", "(?s)docs/a-page.md:2.*nothing on the page prints"),
    "a block without a language": ("```\nhello\n```", "nothing on the page prints"),
    "an unknown language": ("```ruby\nputs 1\n```", "docs/a-page.md:2: no rule for 'ruby'"),
    "a command that fails": ("```sh\nfalse\n```", "(?s)docs/a-page.md:2.*exit code 1"),
    "another output of a command": ("```console\n$ echo 1\n2\n```", "(?s)docs/a-page.md:2.*shown:"),
    "other figures": ("```console\n$ echo 'queue 3'\nqueue 4\n```", "shown:"),
    "a server that ends": ("```console\n$ taskfleet worker nothing:queue\n… INFO …\n```", "no module 'nothing'"),
    "no command": ("```console\nhello\n```", "docs/a-page.md:2: .*begins with"),
    "shell that is wrong": ("<!-- needs: cluster -->\n```sh\nkubectl get 'pods\n```", "docs/a-page.md:3"),
    "an extra that is not": ('```sh\npip install "taskfleet[nothing]"\n```', "no extra of nothing"),
    "a chore that is not": ("<!-- needs: minutes -->\n```sh\nmake nothing\n```", "no chore nothing"),
    "a field that is not": ("```yaml\nspec:\n  worker: {drain: 5}\n```", "spec.worker.drain"),
    "a value of the chart that is not": ("```yaml\nnetworkPolicy: {operator: {enabled: 3}}\n```", "docs/a-page.md:2"),
    "a setting that is not": ("```toml\n[redis]\nadress = 1\n```", "adress"),
    "JSON that is none": ("```json\n{\n```", "docs/a-page.md:2"),
    "a test that fails": ("```python\n# test_a.py\ndef test_a() -> None:\n    assert 0\n```", "docs/a-page.md:2"),
}


def run(text: str, folder: Path, url: str) -> None:
    blocks = parse(PAGE, text)
    for block in blocks:
        formats.check(block, folder)
    (folder / "page").mkdir()
    with Story(folder / "page", url) as story:
        story.seconds = 5
        story.run(blocks)


@pytest.mark.parametrize("name", GOOD)
def test_a_page_that_is_right_passes(name: str, tmp_path: Path, empty_redis: str) -> None:
    run(GOOD[name], tmp_path, empty_redis)


@pytest.mark.parametrize("name", WRONG)
def test_a_page_that_is_wrong_fails_with_its_line(name: str, tmp_path: Path, empty_redis: str) -> None:
    text, error = WRONG[name]
    with pytest.raises(AssertionError, match=error):
        run(text, tmp_path, empty_redis)


@pytest.mark.parametrize("text", ["<!-- needs: cluster -->\n", "<!-- needs: cluster -->\n\nA line.\n", "```sh\nls\n"])
def test_a_marker_without_a_block_and_a_block_without_an_end_are_errors(text: str) -> None:
    with pytest.raises(AssertionError, match=r"a-page\.md"):
        parse(PAGE, text)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("2026-11-26 09:57:28,167 INFO started", "2027-01-02 00:00:00,001 INFO started"),
        ("worker vm-9440-d9345a/0: 16 slots", "worker host.example-1-0123456789ab/0: 16 slots"),
        ("a   0.0s", "a 12.5s"),
        ("after 0.00 s", "after 3 s"),
        ('File "/srv/shop/tasks.py", line 9', 'File "/tmp/x/tasks.py", line 9'),
        ("by  vm:18278", "by  some-host:7"),
    ],
)
def test_what_differs_from_run_to_run_is_the_same(shown: str, printed: str) -> None:
    assert output.compare([shown], [printed]) == {}


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("16 slots", "17 slots"), ("a b", "a c"), ("line 9", "line 8"), ("a", "a b"), ("", "a"), ("a", "")],
)
def test_all_else_must_be_equal(shown: str, printed: str) -> None:
    assert output.compare([shown] if shown else [], [printed] if printed else []) is None
