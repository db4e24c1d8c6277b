"""The application: its routes, what guards them, and its errors in one line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Collection
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from taskfleet import showing
from taskfleet.errors import (
    BrokerConnectionError,
    ConfigurationError,
    QueueFullError,
    TaskNotFoundError,
    TaskQueueError,
    TaskStateError,
)
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.version import __version__
from taskfleet_dashboard.answers.answer import ErrorAnswer
from taskfleet_dashboard.guarding.bodies import BodyLimit
from taskfleet_dashboard.guarding.failures import FailureAnswers
from taskfleet_dashboard.guarding.headers import SecurityHeaders
from taskfleet_dashboard.guarding.hosts import HostCheck
from taskfleet_dashboard.metrics.requests import CountedRequests
from taskfleet_dashboard.refusals import Refused
from taskfleet_dashboard.routes import (
    dead,
    events,
    overview,
    pages,
    queues,
    scalers,
    schedules,
    session,
    tasks,
    workers,
)
from taskfleet_dashboard.serving import Serving

_REFUSALS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorAnswer, "description": "One line that says why."}
}
_STATUS: tuple[tuple[type[TaskQueueError], int], ...] = (
    (TaskNotFoundError, 404),
    (TaskStateError, 409),
    (QueueFullError, 429),
    (ConfigurationError, 422),
    (CallRefusedError, 500),  # it answers, and would give the same answer again
    (BrokerConnectionError, 503),
)


def application(serving: Serving, *, hosts: Collection[str] | None) -> FastAPI:
    """The application for one dashboard. `hosts`: the names that it is served as, or `None` for any."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with serving:
            yield

    app = FastAPI(
        title="Taskfleet dashboard",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(CountedRequests),
            Middleware(SecurityHeaders),
            Middleware(FailureAnswers),
            Middleware(HostCheck, hosts=hosts),
            Middleware(BodyLimit),
        ],
        responses=_REFUSALS,
    )
    app.state.serving = serving
    api = APIRouter(prefix="/api")
    for part in (session, overview, workers, queues, tasks, dead, schedules, scalers, events):
        api.include_router(part.router)
    app.include_router(api)
    app.include_router(pages.router)
    for kind, answer in (
        (Refused, _refused),
        (TaskQueueError, _failed),
        (HTTPException, _not_served),
        (RequestValidationError, _not_valid),
    ):
        app.add_exception_handler(kind, answer)
    return app


def _line(status: int, text: str, login: str | None = None) -> JSONResponse:
    line = showing.shown(" ".join(text.split()), 1000)
    headers = {"Retry-After": "5"} if status in (429, 503) else None
    return JSONResponse(ErrorAnswer(error=line, login=login).model_dump(), status_code=status, headers=headers)


async def _refused(_request: Request, error: Any) -> JSONResponse:
    return _line(error.status, str(error), error.login)


async def _failed(_request: Request, error: Any) -> JSONResponse:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _line(status, str(error))


async def _not_served(_request: Request, error: Any) -> JSONResponse:
    return _line(error.status_code, str(error.detail))


async def _not_valid(_request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # what is there for a name is where in the text
        return _line(422, f"the body is no JSON: {first['ctx']['error']}")
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    return _line(422, f"{where}: {first['msg'].removeprefix('Value error, ')}")
