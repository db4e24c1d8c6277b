"""A task that writes an answer word by word, and reports what it has so far."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pydoc_data.topics import topics

from taskfleet import TaskQueue, current_task

NOTE = 1000  # the most characters that a report carries

queue = TaskQueue.from_config()


async def generate(prompt: str, words: int = 250) -> AsyncIterator[str]:
    """What stands for a language model: each word is one that follows the last in Python's manual.

    The same prompt gives the same words, at the pace of a model.
    """
    follows: dict[str, list[str]] = {}
    text: Iterable[str] = topics["compound"].split()
    for one, other in pairwise(text):
        follows.setdefault(one, []).append(other)
    chance = random.Random(prompt)
    word = "The"
    for _ in range(words):
        yield f"{word} "
        word = chance.choice(follows[word])
        await asyncio.sleep(0.02)


# Reports cost little: a worker sends the latest report of each task four times a second. Each carries the end of the
# text, so that a reader who has lost a few loses no word. The result has all of it.
@queue.task(timeout=120)
async def answer(prompt: str) -> str:
    """The whole answer."""
    text = ""
    async for piece in generate(prompt):
        text += piece
        await current_task().progress(len(text), note=text[-NOTE:])
    return text
