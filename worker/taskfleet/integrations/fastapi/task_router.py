"""The router of one queue: one operation for each of its tasks, also for those that are defined later."""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, NoReturn, cast

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.routing import BaseRoute

from taskfleet import checks
from taskfleet.errors import ConfigurationError, SerializationError, TaskNotFoundError
from taskfleet.integrations.fastapi import answers
from taskfleet.integrations.fastapi.answers import AcceptedReport, TaskStateReport
from taskfleet.integrations.fastapi.arguments import MakeMessage, TaskArguments
from taskfleet.integrations.fastapi.bounded_route import BoundedRoute, OtherRoute, QuotedRoute, quoted
from taskfleet.integrations.observing.report import Report
from taskfleet.integrations.observing.reports import RegistryReport, TaskReport
from taskfleet.queue import TaskQueue
from taskfleet.tasks.class_task import Task
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.namespace import CLASS_TASKS

_NO_WORD = re.compile(r"\W")


class ErrorAnswer(Report):
    """Why a request was not fulfilled."""

    detail: str
    """One sentence: what is wrong, and what to do."""


def failures(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of these codes, for OpenAPI."""
    texts = {
        404: "There is no such task",
        413: "The arguments are too large",
        429: "The queue is full",
        503: "Redis does not answer",
    }
    return {code: {"model": ErrorAnswer, "description": texts[code]} for code in codes}


class TaskRouter(APIRouter):
    """The routes of one queue. `offered` are the tasks that can be enqueued, `refused` the others with the reason."""

    def __init__(
        self,
        queue: TaskQueue,
        *,
        prefix: str,
        dependencies: Sequence[Depends],
        only: Collection[str] | None,
        max_body_bytes: int,
        max_wait: float,
    ) -> None:
        self._queue = queue
        self._only = only
        self._max_wait = max_wait
        self._bounded = type("BoundedRoute", (BoundedRoute,), {"max_body_bytes": max_body_bytes})
        self._quoted = type("QuotedRoute", (QuotedRoute,), {"max_body_bytes": max_body_bytes})
        self.offered: dict[str, TaskArguments] = {}
        self.refused: dict[str, tuple[Definition, str]] = {}
        self._other = type("OtherRoute", (OtherRoute,), {"max_body_bytes": max_body_bytes, "offered": self.offered})
        super().__init__(prefix=prefix, dependencies=dependencies, route_class=self._bounded, lifespan=_closing(queue))

    def add_task_routes(self) -> None:
        """Add the operations of all tasks, and from now on that of each task that is defined."""
        self.add_api_route(
            "/status/{task_id}",
            self._state,
            methods=["GET"],
            response_model=TaskStateReport,
            summary="The state and the result of a task",
            name="task_state",
            responses=failures(404, 503),
        )
        for registry in (self._queue.registry, CLASS_TASKS):
            for definition in list(registry):
                self._defined(definition)
            registry.watch(self._defined)
        if not self.prefix:
            return  # the next route would take the requests of the whole application
        # For names that no task has. It leaves the others to their own routes, which may come after it.
        self.add_api_route(
            "/{task:path}",
            self._unknown,
            methods=["POST"],
            include_in_schema=False,
            route_class_override=self._other,
        )

    def registry(self) -> RegistryReport:
        """The tasks that can be enqueued, and those that cannot."""
        self._try_again()
        tasks = [_task_report(arguments.definition, arguments, None) for arguments in self.offered.values()]
        tasks += [_task_report(definition, None, why) for definition, why in self.refused.values()]
        return RegistryReport(tasks=sorted(tasks, key=lambda task: task.name), count=len(tasks))

    def _defined(self, definition: Definition) -> None:
        name = definition.name
        if self._only is not None and name not in self._only:
            return
        self._try_again()
        if self.offered.pop(name, None) is not None:
            self.routes[:] = [route for route in self.routes if not _is_post(route, f"{self.prefix}/{quoted(name)}")]
        self.refused.pop(name, None)
        self._offer(definition)

    def _try_again(self) -> None:
        """An annotation may name a class that is defined after the task."""
        for name, (definition, _) in list(self.refused.items()):
            self.refused.pop(name, None)
            self._offer(definition)

    def _offer(self, definition: Definition) -> None:
        name = definition.name
        try:
            arguments = TaskArguments(definition)
        except ConfigurationError as error:
            self.refused[name] = definition, str(error)
            return
        self.add_api_route(
            f"/{quoted(name)}",
            self._endpoint(arguments),
            methods=["POST"],
            status_code=202,
            response_model=AcceptedReport,
            summary=f"Enqueue {name}",
            description=description_of(definition) or "",
            name=_operation_name(name),
            responses=failures(413, 429, 503),
            route_class_override=self._bounded if quoted(name) == name else self._quoted,
        )
        self.offered[name] = arguments

    def _endpoint(self, arguments: TaskArguments) -> Callable[..., Any]:
        """The function of one operation. Its signature is made here, since its body has the type of the task."""

        async def enqueue(
            request: Request,
            response: Response,
            body: MakeMessage | None,
            delay: float | None,
            queue: str | None,
            unique_key: str | None,
        ) -> AcceptedReport:
            message = _without_body(arguments) if body is None else body
            return await self._enqueue(request, response, arguments, message, delay, queue, unique_key)

        empty, named = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
        parameters: dict[str, tuple[Any, Any]] = {
            "request": (Request, empty),
            "response": (Response, empty),
            "body": (
                Annotated[arguments.body_type(), Body(title=arguments.title)],
                empty if arguments.is_required else None,
            ),
            "delay": (Annotated[float | None, _DELAY], None),
            "queue": (Annotated[str | None, _QUEUE], None),
            "unique_key": (Annotated[str | None, _UNIQUE_KEY], None),
        }
        made: Any = enqueue
        made.__signature__ = inspect.Signature(
            [
                inspect.Parameter(name, named, annotation=hint, default=default)
                for name, (hint, default) in parameters.items()
            ]
        )
        return enqueue

    async def _enqueue(
        self,
        request: Request,
        response: Response,
        arguments: TaskArguments,
        make_message: MakeMessage,
        delay: float | None,
        queue: str | None,
        unique_key: str | None,
    ) -> AcceptedReport:
        definition = arguments.definition
        if self.offered.get(definition.name) is not arguments:  # it was defined anew, and JSON does not have that
            self._refuse(definition.name)
        given = {"delay": delay, "queue": queue, "unique_key": unique_key}
        given = {name: value for name, value in given.items() if value is not None}
        if queue is not None:
            self._check_queue(queue)
        try:
            options = definition.options.for_call(cast("Any", given)) if given else definition.options
        except ConfigurationError as error:
            raise _wrong(("query",), str(error)) from None
        handle = await self._queue.send(make_message(options))
        url = f"{quoted(_path_of(request).removesuffix(definition.name))}status/{handle.id}"
        response.headers["Location"] = url
        return AcceptedReport(id=handle.id, task=definition.name, queue=handle.queue or options.queue, status_url=url)

    def _check_queue(self, name: str) -> None:
        """A queue that this program does not name would get tasks that no worker takes."""
        known = {each.name for each in self._queue.application.queue_options}
        known |= {arguments.definition.options.queue for arguments in self.offered.values()}
        if name not in known:
            hint = checks.did_you_mean(name, sorted(known))
            raise _wrong(("query", "queue"), f"there is no queue {name!r}{hint}; known: {', '.join(sorted(known))}")

    async def _state(
        self,
        task_id: Annotated[str, Path(max_length=checks.KEY_CHARACTERS)],
        wait: Annotated[float, Query(ge=0, allow_inf_nan=False, description="Seconds to wait for its end.")] = 0.0,
    ) -> TaskStateReport:
        """Where a task is, and its result once it has succeeded. `wait` is limited by the router's `max_wait`."""
        try:
            return await answers.state_of(self._queue.handle(task_id), min(wait, self._max_wait))
        except TaskNotFoundError as error:
            raise HTTPException(404, str(error)) from None
        except SerializationError as error:  # what Redis holds, and nothing that was sent
            raise HTTPException(500, str(error)) from None

    async def _unknown(self, request: Request, task: str) -> Response:
        self._try_again()
        if task in self.offered:
            return RedirectResponse(quoted(_path_of(request)), 307)  # to the route that it has now
        return self._refuse(task)

    def _refuse(self, task: str) -> NoReturn:
        if task in self.refused:
            raise HTTPException(404, self.refused[task][1])
        known = sorted(self.offered)
        hint = checks.did_you_mean(task, known) or (f"; known: {', '.join(known)}" if len(known) <= 10 else "")
        raise HTTPException(404, f"no task is named {checks.shown(task)}{hint}")


def _is_post(route: BaseRoute, path: str) -> bool:
    return isinstance(route, APIRoute) and route.path == path and "POST" in (route.methods or ())


def _path_of(request: Request) -> str:
    """The path as the client has asked for it: a proxy may have removed its beginning."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", "")).rstrip("/")
    return path if path.startswith(f"{root}/") else root + path


_DELAY = Query(ge=0, le=checks.MOST_SECONDS, allow_inf_nan=False, description="Seconds until it becomes ready.")
_QUEUE = Query(max_length=255, description="Another queue than that of the task.")
_UNIQUE_KEY = Query(
    min_length=1,
    max_length=checks.KEY_CHARACTERS,
    description="At most one task of this key waits or runs in its queue; a second request gets the id of the first.",
)


def _closing(queue: TaskQueue) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The queue opens its connections when it needs them; with the application it closes them."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await queue.close()

    return lifespan


def _without_body(arguments: TaskArguments) -> MakeMessage:
    try:
        return arguments.without_body()
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in problems]) from None


def _wrong(location: tuple[str, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": location, "msg": message, "input": None}])


def _operation_name(name: str) -> str:
    """A name for the operation, which differs for `a.b` and `a_b`."""
    plain = _NO_WORD.sub("_", name)
    return f"enqueue_{plain}" if plain == name else f"enqueue_{plain}_{zlib.crc32(name.encode()):08x}"


def _task_report(definition: Definition, arguments: TaskArguments | None, unavailable: str | None) -> TaskReport:
    options = definition.options
    thing = _thing_of(definition)
    return TaskReport(
        name=definition.name,
        kind="batch" if definition.batch else "class" if isinstance(thing, type) else "function",
        queue=options.queue,
        max_retries=options.max_retries,
        timeout_seconds=options.timeout,
        executor=options.executor,
        defined_in=f"{thing.__module__}.{thing.__qualname__}",
        description=description_of(definition),
        path=f"/{quoted(definition.name)}" if arguments is not None else None,
        unavailable=unavailable,
        arguments=arguments.schema if arguments is not None else None,
    )


def _thing_of(definition: Definition) -> Any:
    """The function or the class that the application defines."""
    is_class = CLASS_TASKS.find(definition.name) is definition
    return definition.signature.parameters[0].annotation if is_class else definition.function


def description_of(definition: Definition) -> str | None:
    """The first paragraph of the docstring, in one line. A class inherits that of `Task`, which is about no task."""
    thing = _thing_of(definition)
    text = inspect.getdoc(thing)
    if not text or (isinstance(thing, type) and text == inspect.getdoc(Task)):
        return None
    return " ".join(text.partition("\n\n")[0].split()) or None
