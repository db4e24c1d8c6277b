"""The TaskQueue manifests in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taskfleet_operator.resource import kubectl_yaml

DOCS = Path(__file__).parents[2] / "docs"


def documented() -> dict[str, dict[str, Any]]:
    """Each manifest by its page and its number on it."""
    found: dict[str, dict[str, Any]] = {}
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if re.search(r"^kind: TaskQueue$", block, re.MULTILINE):
                for document in kubectl_yaml.documents(block):
                    if document["kind"] == "TaskQueue":
                        found[f"{page.relative_to(DOCS)} {len(found)}"] = document
    return found
