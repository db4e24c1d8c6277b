"""Send the whole count as one workflow, wait for its end, and compare it with a plain count."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from taskfleet import TaskQueueError, chord, group

from wordcount import CHAPTERS, add_up, count_words, find_longest, longest_of, queue, words


async def main() -> None:
    counting = chord([count_words.message(chapter) for chapter in CHAPTERS], add_up.partial())
    searching = chord([find_longest.message(chapter) for chapter in CHAPTERS], longest_of.partial())

    async with queue:
        # One call sends all tasks. The result is a tuple: a type checker knows the type of each member.
        both = await queue.enqueue(group(counting, searching))
        total, longest = await both.result(timeout=60)

    print(f"{len(CHAPTERS)} chapters, {sum(total.values())} words, {len(total)} different ones")
    for word, times in Counter(total).most_common(3):
        print(f"{times:6} {word}")
    print(f"longest: {longest}")

    book = words("\n".join(CHAPTERS.values()))
    same = total == Counter(book) and longest == longest_of(book)  # a plain call runs a task's function here
    print("a plain count finds the same" if same else "WRONG: a plain count finds something else")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TaskQueueError as error:
        sys.exit(f"count.py: {error}")
