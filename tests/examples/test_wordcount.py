"""examples/wordcount/README.md."""

from __future__ import annotations

import re
from collections import Counter
from pydoc_data.topics import topics

from tests.examples.conftest import MakeExample


def test_the_tasks_find_what_a_plain_count_finds(example: MakeExample) -> None:
    words = example("wordcount")
    words.start("taskfleet dev wordcount:queue").says("is ready")
    output = words.run("python count.py")

    counts = Counter(re.findall("[a-z]+", " ".join(topics.values()).lower()))
    assert f"{len(topics)} chapters, {counts.total()} words, {len(counts)} different ones\n" in output
    assert re.findall(r"^ *(\d+) (\w+)$", output, re.MULTILINE) == [
        (str(times), word) for word, times in counts.most_common(3)
    ]
    words.shows(re.sub("longest: .*\n", "", output))
    longest = re.findall(r"^longest: (\w+)$", output, re.MULTILINE)
    assert [len(word) for word in longest] == [max(map(len, counts))]
