"""The connection to an API server: how a call is sent, limited, repeated, counted, and kept from a stand-by."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any
from urllib.parse import urlencode

import aiohttp

from taskfleet import showing
from taskfleet.errors import ConfigurationError

from . import connections, deep_json, login
from .connections import without_late_writes
from .token_bucket import TokenBucket

logger = showing.logger("taskfleet.operator")

Object = dict[str, Any]

USER_AGENT = "taskfleet-operator"
TIMEOUT_SECONDS = 15.0
WRITES_PER_SECOND, WRITES_AT_ONCE = 50.0, 100
_WAIT_SECONDS = 10.0  # for a write, and for all repetitions of a call; who waits holds one of few workers
_REPEATED = (0, 429, 500, 502, 503, 504)
_MALFORMED = ("failed to convert", "failed to create typed")
_LONGEST_PAUSE_SECONDS = 30.0
_RELOAD_SECONDS = 1.0
_REASON_CHARACTERS = 2000


class Urgency(IntEnum):
    """Which write goes first when the operator has used up its rate."""

    SCALE = 0
    APPLY = 1
    TELL = 2
    NOTE = 3


class ApiError(Exception):
    """The API server refused a call. `invalid`: it will refuse the same object again.

    `conflict`: the object exists already, or is another one, or another version, than the call expected.
    `status` is 0 when there was no answer. `retry_after`: seconds for which the server asked to be left alone.
    """

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{message} ({status})" if status else message)
        self.status = status
        self.retry_after = retry_after
        # An apply with the uid of an object that has been replaced by another ends in 422.
        self.conflict = status == 409 or (status == 422 and "metadata.uid" in message)
        # A server-side apply of an unknown or malformed field ends in 500 and not in 422.
        self.invalid = not self.conflict and (
            status in (400, 422) or (status == 500 and message.startswith(_MALFORMED))
        )

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed later: there was no answer, or the server had too much to do."""
        return self.status in (0, 429) or self.status >= 500


class UnreachableError(ApiError):
    """The API server did not answer, or its answer broke off."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0, f"the API server does not answer: {str(error) or type(error).__name__}")


class NotLeadingError(ApiError):
    """Another operator leads, or may lead by now: this process does not write."""

    def __init__(self, subject: str) -> None:
        super().__init__(0, f"{subject}: not written, this operator does not lead")

    @property
    def passes(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A call of the API. `verb` is its name in the metrics (`get`, `apply`, …), `method` the one of HTTP."""

    verb: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Object | None = None
    content_type: str = "application/json"


class ApiConnection:
    """Every call has a timeout of 15 seconds.

    A call that is refused with 429 or 5xx, or finds no server, is repeated for up to 10 seconds; then it raises, and
    its caller tries later. A creation may have succeeded without an answer, so that it is repeated only after a 429.
    After a 401 the configuration is loaded again: the ServiceAccount may have been made anew.
    """

    def __init__(self, api: Any, kubeconfig: str | None = None) -> None:
        """`api` is what `login.client` returns."""
        self.may_write: Callable[[], bool] = lambda: True
        """Asked immediately before each write. `NotLeadingError` when it says no."""
        self.write_seconds: Callable[[], float] = lambda: TIMEOUT_SECONDS
        """How long a write may take at most."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """Calls by verb (`get`, `watch`, `apply`, …) and HTTP status, `error` for those without an answer."""
        self.writes = TokenBucket(WRITES_PER_SECOND, WRITES_AT_ONCE)
        self._api: Any = without_late_writes(api, self._ask)
        self._kubeconfig = kubeconfig
        self._unauthorized_since: float | None = None
        self._reloading = asyncio.Lock()
        self._loaded_at = float("-inf")
        self._writing = 0
        self._still = asyncio.Event()
        self._still.set()

    async def close(self) -> None:
        await self._api.close()

    async def writes_ended(self, seconds: float) -> None:
        """Wait until no write is on its way, at most for `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._still.wait()

    def unauthorized_for(self) -> float:
        """For how many seconds the API server has refused this operator's credentials; 0 while it accepts them."""
        return 0.0 if self._unauthorized_since is None else time.monotonic() - self._unauthorized_since

    async def read(self, verb: str, path: str, query: Mapping[str, str] | None = None) -> Object:
        return await self._repeated(ApiCall(verb, "GET", path, query or {}))

    async def write(self, call: ApiCall, *, urgency: Urgency = Urgency.APPLY, gated: bool = True) -> Object:
        """`gated`: only while `may_write` says so. A dry run changes nothing and is not."""
        return await self._repeated(call, gated=gated, urgency=urgency)

    async def stream(self, path: str, query: Mapping[str, str], silence_seconds: float) -> AsyncGenerator[Object]:
        """The lines of an answer as they come. `ApiError` when none has come for `silence_seconds`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=silence_seconds)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send(ApiCall("watch", "GET", path, query), timeout)
            self._count("watch", response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._count("watch", 0)
            raise UnreachableError(error) from error
        try:
            if response.status >= 400:
                raise await self._refusal(response)
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield deep_json.loads(line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(error) from error
        finally:
            connections.abort(response)  # a watch that is left early stays open otherwise

    async def _repeated(self, call: ApiCall, *, gated: bool = False, urgency: Urgency | None = None) -> Object:
        ends_at, attempt = time.monotonic() + _WAIT_SECONDS, 0
        while True:
            attempt += 1
            try:
                if urgency is not None:
                    await self._token(urgency)
                return await self._once(call, gated=gated)
            except NotLeadingError:
                raise
            except ApiError as error:
                passes = (429,) if call.method == "POST" else _REPEATED
                again = error.status in passes or (error.status == 401 and attempt == 1)
                pause = max(error.retry_after, 0.1 * 2.0**attempt * (0.5 + random.random() / 2))
                if not again or error.invalid or time.monotonic() + pause > ends_at:
                    raise
            await asyncio.sleep(pause)

    async def _token(self, urgency: Urgency) -> None:
        try:
            await self.writes.take(urgency, seconds=_WAIT_SECONDS)
        except TimeoutError:
            raise ApiError(
                429, f"not sent: the operator writes at most {WRITES_PER_SECOND:g} times a second", _WAIT_SECONDS
            ) from None

    async def _once(self, call: ApiCall, *, gated: bool) -> Object:
        seconds = TIMEOUT_SECONDS
        if gated:
            # This client and the API server both give up the call before another operator can lead.
            seconds = min(seconds, self.permit(f"{call.method} {call.path}"))
            call = replace(call, query={**call.query, "timeout": f"{int(seconds)}s"})
        with self._on_its_way(gated):
            try:
                response = await self._send(call, seconds)
                data: bytes = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._count(call.verb, 0)
                raise UnreachableError(error) from error
        self._count(call.verb, response.status)
        if response.status >= 400:
            raise await self._refusal(response)
        try:
            parsed: Object = deep_json.loads(data)
        except ValueError:
            raise ApiError(response.status, "the API server's answer is no JSON") from None
        return parsed

    def permit(self, subject: str) -> float:
        """The seconds in which a write that begins now has to end, in Redis too. `NotLeadingError` for none."""
        self._ask(subject)
        return max(1.0, self.write_seconds())

    def _ask(self, call: str) -> None:
        if not self.may_write():
            raise NotLeadingError(call)

    @contextlib.contextmanager
    def _on_its_way(self, write: bool) -> Generator[None]:
        self._writing += write
        if write:
            self._still.clear()
        try:
            yield
        finally:
            self._writing -= write
            if not self._writing:
                self._still.set()

    async def _send(self, call: ApiCall, timeout: float | aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        api = self._api
        url = f"{api.configuration.host}{call.path}{'?' + urlencode(call.query) if call.query else ''}"
        headers = {"Accept": "application/json", "Content-Type": call.content_type, "User-Agent": USER_AGENT}
        # The token is read at every call: tokens in pods are rotated.
        await api.update_params_for_auth(headers, [], ["BearerToken"], call.path, call.method, call.body)
        try:
            answer: Any = await api.rest_client.request(
                call.method, url, headers=headers, body=call.body, _request_timeout=timeout
            )
        except (RuntimeError, AssertionError) as error:
            if not api.rest_client.pool_manager.closed:
                raise
            # aiohttp has no error of its own for a session that is closed before the call has its connection.
            raise aiohttp.ClientConnectionError("the connections were closed") from error
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        """The error for an answer of 400 or more."""
        reason = _reason(await response.read())
        if response.status == 401:
            await self._reload()
        pause = _seconds(response.headers.get("Retry-After"))
        if response.status == 429 and pause:
            self.writes.close_for(pause)
        return ApiError(response.status, reason, pause)

    async def _reload(self) -> None:
        """Load the configuration again, at most once a second, for all calls that were refused."""
        async with self._reloading:
            if time.monotonic() - self._loaded_at < _RELOAD_SECONDS:
                return
            self._loaded_at = time.monotonic()
            try:
                loaded = await login.client(self._kubeconfig)
            except (ConfigurationError, OSError, ValueError) as error:
                logger.warning("the API server refuses the operator's credentials, and there are no others: %s", error)
                return
            logger.warning("the API server refuses the operator's credentials (401); they have been loaded again")
            before, self._api = self._api, without_late_writes(loaded, self._ask)
            await before.close()  # what is still under way there breaks off, and is repeated

    def _count(self, verb: str, status: int) -> None:
        self.calls[verb, str(status or "error")] += 1
        if status == 401:
            if self._unauthorized_since is None:
                self._unauthorized_since = time.monotonic()
        elif status:
            self._unauthorized_since = None


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header. A date, which the API server does not send, counts as none."""
    try:
        return min(_LONGEST_PAUSE_SECONDS, max(0.0, float(retry_after or 0.0)))
    except ValueError:
        return 0.0


def _reason(data: bytes) -> str:
    try:
        text = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        text = data[:200].decode("utf-8", "replace")
    return " ".join(text[:_REASON_CHARACTERS].split())
