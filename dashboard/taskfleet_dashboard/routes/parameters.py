"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

_MOST = 1000

Search = Annotated[str, Query(max_length=_MOST, description="Only those whose name has this text.")]
QueueFilter = Annotated[str | None, Query(max_length=_MOST, description="Only of this queue.")]
TaskFilter = Annotated[str | None, Query(max_length=_MOST, description="Only of this task name.")]
Cursor = Annotated[str | None, Query(max_length=4096, description="The cursor of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500, description="The most rows of the page.")]
QueueName = Annotated[str, Path(max_length=_MOST, description="The name of the queue.")]
TaskId = Annotated[str, Path(alias="id", max_length=_MOST, description="The id of the task.")]
