"""A call of a task before it is sent: its encoded arguments and what it sets for itself."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskfleet import checks, ids
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.protocol import envelope, result_record
from taskfleet.protocol.item import Item
from taskfleet.retry import delay_ms
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.options import NO_OPTIONS, CallOptions, KeyFunction

if TYPE_CHECKING:
    from taskfleet.protocol.sealing import Seal

R = TypeVar("R")

# `dict` itself: calling the alias dict[str, str] takes ten times as long, for every message.
_new_dict: Callable[[], dict[str, str]] = dict


@dataclass(slots=True)
class Message(Generic[R]):
    """A call that can be enqueued: which task, its encoded arguments, and what the call sets for itself.

    Encoding happens when the message is sent, so that `enqueue_many` can report all bad ones at once.
    """

    task: Definition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions
    headers: dict[str, str] = field(default_factory=_new_dict)  # what middleware gives along

    @property
    def queue(self) -> str:
        return self.options.queue or self.task.options.queue

    @property
    def unique_key(self) -> str | None:
        return self._key("unique_key", self.options.unique_key or self.task.options.unique_key)

    @property
    def spread_key(self) -> str | None:
        """What keeps tasks in one partition: they share a lock, a limit or a turn."""
        task, options = self.task.options, self.options
        return (
            self.unique_key
            or self._key("limit_key", options.limit_key or task.limit_key)
            or self._key("fair_key", options.fair_key or task.fair_key)
        )

    @property
    def takes_result(self) -> bool:
        """Whether it has a first argument for the result of the task before it."""
        return self.task.takes_result

    def encode(
        self,
        max_payload_bytes: int,
        seal: Seal | None = None,
        *,
        task_id: str | None = None,
        behind_result: bool = False,
        more_settings: dict[str, Any] | None = None,
        clock: Callable[[str], float] | None = None,
    ) -> Item:
        """The item for `Broker.enqueue`; `SerializationError` names the parameter.

        `behind_result`: the first argument is the result of another task and comes when that ends. `clock`: the time
        in ms where a queue lives; what it raises passes through.
        """
        signature = self.task.signature
        args, kwargs = signature.dump(self.args, self.kwargs, behind_result=behind_result)
        options, defaults = self.options, self.task.options
        plain = options is NO_OPTIONS and not self.task.has_call_defaults
        settings = {} if plain else self._settings(clock)
        if more_settings:
            settings |= more_settings
        if self.headers:
            settings["h"] = _checked_headers(self.task.name, self.headers)
        try:
            version = signature.version_for(args, kwargs) if signature.may_be_typed else envelope.VERSION
            blob = envelope.encode(self.task.name, args, kwargs, settings, version)
        except (TypeError, ValueError, OverflowError) as error:
            raise signature.blame(args, kwargs, error, behind_result=behind_result) from None
        if task_id is None:
            task_id = ids.new_id()
        if seal is not None:
            blob = seal.close("task", self.queue, task_id, blob)
        if len(blob) > max_payload_bytes:
            raise PayloadTooLargeError(
                f"task {self.task.name!r}: {len(blob)} bytes are more than max_payload_bytes={max_payload_bytes}; "
                "store the data elsewhere and pass its address"
            )
        if plain:
            return task_id, blob, 0, 0
        eta = math.ceil(options.eta * 1000) if options.eta else 0
        delay = options.delay or (defaults.delay if not eta else 0.0)
        more = self._more()
        if more:
            return task_id, blob, delay_ms(delay), eta, more
        return task_id, blob, delay_ms(delay), eta

    def _settings(self, clock: Callable[[str], float] | None) -> dict[str, Any]:
        """What the call sets for itself: protocol/envelope.py."""
        options = self.options
        settings: dict[str, Any] = {}
        if options.max_retries is not None:
            settings["r"] = options.max_retries
        if options.timeout is not None:
            settings["t"] = options.timeout
        if options.result_ttl is not None:
            settings["k"] = options.result_ttl
        expires = self.task.options.expires if options.expires is None else options.expires
        if expires is not None:
            now = clock(self.queue) / 1000 if clock is not None else time.time()
            settings["x"] = now + expires
        if options.retry is not None:
            settings["b"] = options.retry.packed()
        if options.max_age is not None:
            settings["a"] = options.max_age
        return settings

    def _more(self) -> dict[str, Any]:
        """What lua/enqueue.lua calls `more`."""
        options, defaults = self.options, self.task.options
        more: dict[str, Any] = {}
        if unique := self.unique_key:
            mode = options.unique_mode or defaults.unique_mode
            more |= {"u": unique, "m": mode[0]}
            if mode != "keep_existing":
                record = result_record.pack_cancelled("replaced by a newer task of the same unique key")
                more |= {"r": record, "t": result_record.CANCELLED_TTL_MS}
        if limit := self._key("limit_key", options.limit_key or defaults.limit_key):
            more["l"] = limit
        if fair := self._key("fair_key", options.fair_key or defaults.fair_key):
            more["f"] = fair
        return more

    def _key(self, option: str, key: str | KeyFunction | None) -> str | None:
        if key is None or isinstance(key, str):
            return key
        where = f"task {self.task.name!r}, {option}: "
        try:
            made: object = key(*self.args, **self.kwargs)
        except Exception as error:
            raise SerializationError(
                f"{where}its key function failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        if inspect.iscoroutine(made):
            made.close()
        return checks.key(f"{where}what its key function returned", made)


def _checked_headers(task: str, headers: dict[str, str]) -> dict[str, str]:
    for key, value in headers.items():
        if type(key) is not str or type(value) is not str:
            raise SerializationError(
                f"task {task!r}, header {key!r}: {checks.shown(value)} is no text; headers are text to text"
            )
        if not (checks.is_utf8(key) and checks.is_utf8(value)):
            raise SerializationError(f"task {task!r}, header {key!r}: {checks.shown(value)} is not valid Unicode")
    return headers
