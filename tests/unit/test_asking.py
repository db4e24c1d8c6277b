"""The question before a command destroys something, on a real terminal."""

from __future__ import annotations

import sys

import pytest

from tests.support.pseudo_terminal import shown_on_a_terminal

# As in a command: an event loop runs around the question, and has a handler for SIGINT of its own.
ASK = """
import asyncio, sys
import typer
from taskfleet.cli import asking

async def main():
    for _ in range(int(sys.argv[1])):
        try:
            asking.ask("Delete all", yes=False)
            print("<yes>")
        except typer.Abort:
            print("<no>")
        except KeyboardInterrupt:
            print("<left>")

asyncio.run(main())
"""


def answers(keys: str, number: int = 1) -> tuple[list[str], str]:
    """What becomes of `number` questions whose keys are pressed as soon as a question is seen."""
    code, shown = shown_on_a_terminal([sys.executable, "-c", ASK, str(number)], keys=keys, after="[y/N]")
    assert code == 0, shown
    return [word for word in ("<yes>", "<no>", "<left>") for _ in range(shown.count(word))], shown


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        ("y\n", "<yes>"), ("YES\n", "<yes>"), ("n\n", "<no>"), ("no\n", "<no>"), ("\n", "<no>"), ("\x04", "<no>"),
        ("\x03", "<left>"), ("y\x03", "<left>"), ("n\x7fy\n", "<yes>"),
        ("y\x04", "<no>"),
    ],
)  # fmt: skip
def test_only_yes_is_yes(keys: str, answer: str) -> None:
    assert answers(keys)[0] == [answer]


IN_THE_BACKGROUND = """
import os, signal, sys
from taskfleet.cli import asking
from taskfleet.errors import TaskQueueError

child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1])
os.setpgid(0, 0)
signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # else it would be stopped, and continued by the `fg` of a shell
try:
    asking.ask("Delete all", yes=False)
except TaskQueueError as error:
    print(error)
"""


def test_a_command_in_the_background_that_no_shell_continues_says_that_nobody_can_answer() -> None:
    command = [sys.executable, "-c", IN_THE_BACKGROUND]
    code, shown = shown_on_a_terminal(command, keys="y\n", after="[y/N]")
    assert code == 0, shown
    assert "the terminal gives no answer (Input/output error); say yes with --yes" in shown


@pytest.mark.parametrize("other", ["Delete", "yy", "é", "\udcff", "x" * 4_000])
def test_another_answer_is_asked_again(other: str) -> None:
    answered, shown = answers(f"{other}\ny\n")
    assert answered == ["<yes>"]
    assert shown.count("answer y or n") == 1


@pytest.mark.parametrize(("keys", "answer"), [("\x03", "<left>"), ("\x04", "<no>"), ("y\n", "<yes>")])
def test_a_key_that_comes_between_the_question_and_the_read_is_not_lost(keys: str, answer: str) -> None:
    assert answers(keys, 1_000)[0] == [answer] * 1_000
