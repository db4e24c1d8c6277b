"""The web server: a page, a route that enqueues a prompt, and the events of its answer.

It remembers nothing: a browser may come back to any server, and says by `Last-Event-ID` what it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from taskfleet import TaskCancelledError, TaskExecutionError, TaskHandle

from answers import answer, queue

POLL_SECONDS = 0.25


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    async with queue:
        yield


app = FastAPI(lifespan=lifespan)


class Prompt(BaseModel):
    prompt: str


class Accepted(BaseModel):
    id: str


async def handle_of(task_id: str) -> TaskHandle[str]:
    """The task of an id, or 404: then a browser does not try again."""
    handle: TaskHandle[str] = queue.handle(task_id)
    if await handle.status() == "unknown":
        raise HTTPException(404, f"no answer has the id {task_id!r}")
    return handle


Answer = Annotated[TaskHandle[str], Depends(handle_of)]


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/answers", status_code=202)
async def ask(asked: Prompt) -> Accepted:
    return Accepted(id=(await answer.enqueue(asked.prompt)).id)


@app.delete("/answers/{task_id}", status_code=204)
async def stop(handle: Answer) -> None:
    await handle.cancel()


@app.get("/answers/{task_id}/events", response_class=EventSourceResponse)
async def events(handle: Answer, last_event_id: Annotated[int, Header(ge=0)] = 0) -> AsyncIterator[ServerSentEvent]:
    """The text in pieces. The id of an event is the number of characters up to its end."""
    sent = last_event_id
    result = asyncio.create_task(handle.result())
    try:
        while not result.done():
            if (report := await handle.progress()) is not None:
                end = int(report.done)
                start = end - len(report.note)
                # A reader who was away for longer than a report reaches back waits for the result.
                if start <= sent < end:
                    yield ServerSentEvent(data=report.note[sent - start :], id=str(end))
                    sent = end
            await asyncio.wait([result], timeout=POLL_SECONDS)
        text = await result
        if sent < len(text):
            yield ServerSentEvent(data=text[sent:], id=str(len(text)))
        yield ServerSentEvent(event="end", data="done")
    except TaskCancelledError:
        yield ServerSentEvent(event="end", data="stopped")
    except TaskExecutionError as error:
        yield ServerSentEvent(event="end", data=f"failed: {error}")
    finally:
        result.cancel()  # the reader may have gone
