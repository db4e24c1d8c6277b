"""Count the words of a book: a task for each chapter, all side by side, and one that adds up what they have found.

The book is the language reference that every Python brings for its `help()`.
"""

from __future__ import annotations

import re
from collections import Counter
from pydoc_data.topics import topics

from taskfleet import TaskQueue

CHAPTERS: dict[str, str] = topics

queue = TaskQueue.from_config()


def words(text: str) -> list[str]:
    """The words of a text in lower case, in their order."""
    return re.findall(r"[a-z]+", text.lower())


# A task is sent the name of a chapter and not its text: it reads what it needs where it runs.
@queue.task
def count_words(chapter: str) -> dict[str, int]:
    """How often each word occurs in a chapter."""
    return Counter(words(CHAPTERS[chapter]))


@queue.task
def find_longest(chapter: str) -> str:
    """The longest word of a chapter; of several, the first in the alphabet."""
    return longest_of(words(CHAPTERS[chapter]))


# The first argument of what stands behind a group is the list of its results, in order.
@queue.task
def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    """The sums of the counts of all chapters."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


@queue.task
def longest_of(found: list[str]) -> str:
    """The longest of these words; of several, the first in the alphabet."""
    return min(found, key=lambda word: (-len(word), word))
