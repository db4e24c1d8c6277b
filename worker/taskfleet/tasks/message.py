"""A message: a call of a task before it is sent, with its arguments, its options and its item for the broker.

A partial message lacks its first argument, which is the result of the task before it in a workflow.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskfleet import checks, ids, queue_names, type_variables
from taskfleet.errors import ConfigurationError, PayloadTooLargeError, SerializationError
from taskfleet.protocol import call_settings, envelope, result_record
from taskfleet.protocol.item import KEEP_EXISTING, MODE_OF, Extras, Item
from taskfleet.protocol.partitions import Partition
from taskfleet.retry import delay_ms
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.member import TaskCall
from taskfleet.tasks.options import KeyFunction, TaskOptions

if TYPE_CHECKING:
    from taskfleet.protocol.sealing import Seal

R_co = TypeVar("R_co", covariant=True)
# What a partial message takes from the task before it. Others take anything: they have all their arguments.
First_contra = type_variables.TypeVar("First_contra", contravariant=True, default=object)

# `dict` itself: calling the alias dict[str, str] takes ten times as long, for every message.
_new_dict: Callable[[], dict[str, str]] = dict


@dataclass(slots=True)
class Message(TaskCall[First_contra, R_co], Generic[R_co, First_contra]):
    """A call that can be enqueued: the task, its arguments and the options of the call.

    A message is encoded when it is sent, so that `enqueue_many` can report all invalid ones at once.
    """

    task: Definition
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: TaskOptions  # the options of the task, overridden by those of this call
    headers: dict[str, str] = field(default_factory=_new_dict)  # set by middleware

    if not TYPE_CHECKING:

        def __class_getitem__(cls, types: Any) -> Any:
            """`Message[int]` is a `Message[int, object]`."""
            types = types if isinstance(types, tuple) else (types,)
            # Not super() alone: a dataclass with slots is another class than the one that this function was made in.
            return super(Message, cls).__class_getitem__(types if len(types) > 1 else (*types, object))

    @property
    def queue(self) -> str:
        return self.options.queue

    @property
    def unique_key(self) -> str | None:
        return self._key("unique_key", self.options.unique_key)

    @property
    def spread_key(self) -> str | None:
        """The key that keeps tasks in one partition: they share a lock, a limit or a turn."""
        options = self.options
        return self.unique_key or self._key("limit_key", options.limit_key) or self._key("fair_key", options.fair_key)

    def to(self, queue: str) -> Message[R_co, First_contra]:
        """The same call for another queue. Errors: `InvalidQueueNameError`."""
        return self._with(queue=queue_names.validate(queue))

    def delayed(self, delay: float | timedelta) -> Message[R_co, First_contra]:
        """The same call, ready after `delay` (seconds or timedelta). Errors: `ConfigurationError`."""
        if self.options.eta is not None:
            raise ConfigurationError("delay and the message's eta both say when it becomes ready; keep one")
        return self._with(delay=checks.seconds("delay", delay))

    def _with(self, **options: Any) -> Message[R_co, First_contra]:
        return dataclasses.replace(self, options=self.options.changed(options))

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
        clock: Callable[[Partition], float] | None = None,
    ) -> Item:
        """The item for `Broker.enqueue`; `SerializationError` names the parameter.

        `behind_result`: the first argument is the result of another task and arrives when that ends. `clock`: the time
        of a queue's server in ms; its errors are raised as they are.
        """
        signature = self.task.signature
        args, kwargs = signature.dump(self.args, self.kwargs, behind_result=behind_result)
        options = self.options
        settings = {} if options.plain else self._settings(clock)
        if more_settings:
            settings |= more_settings
        if self.headers:
            settings[call_settings.HEADERS] = _checked_headers(self.task.name, self.headers)
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
        if options.plain:
            return task_id, blob, 0, 0, None
        eta = math.ceil(options.eta * 1000) if options.eta else 0
        return task_id, blob, delay_ms(options.delay), eta, self._extras()

    def _settings(self, clock: Callable[[Partition], float] | None) -> dict[str, Any]:
        """The settings that go into the envelope: protocol/call_settings.py."""
        settings = self.options.settings.copy()
        expires = self.options.expires
        if expires is not None:
            now = clock(Partition(self.queue)) / 1000 if clock is not None else time.time()
            settings[call_settings.EXPIRES_AT] = now + expires
        return settings

    def _extras(self) -> Extras | None:
        """The keys of this call, if it has any."""
        options = self.options
        unique = self.unique_key
        limit = self._key("limit_key", options.limit_key)
        fair = self._key("fair_key", options.fair_key)
        if not (unique or limit or fair):
            return None
        extras = Extras(limit_key=limit or None, fair_key=fair or None)
        if unique:
            extras.unique_key, extras.unique_mode = unique, MODE_OF[options.unique_mode]
            if extras.unique_mode != KEEP_EXISTING:
                reason = "replaced by a newer task of the same unique key"
                extras.replaced_record = result_record.pack_cancelled(reason)
                extras.replaced_ttl_ms = result_record.CANCELLED_TTL_MS
        return extras

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


class PartialMessage(Message[R_co, First_contra]):
    """A message whose first argument comes from the task before it (`task.partial(…)`)."""

    __slots__ = ()

    def encode(self, *args: Any, behind_result: bool = False, **kwargs: Any) -> Item:
        """As for `Message`. Errors: `ConfigurationError` when no task before it gives it a result."""
        if not behind_result:
            name = self.task.name
            raise ConfigurationError(
                f"task {name!r}: {name}.partial(…) leaves its first argument to the task before it, and there is none; "
                f"put it behind another member of a chain or chord, or give all arguments: {name}.message(…)"
            )
        return super().encode(*args, behind_result=True, **kwargs)


def _checked_headers(task: str, headers: dict[str, str]) -> dict[str, str]:
    for key, value in headers.items():
        if type(key) is not str or type(value) is not str:
            raise SerializationError(
                f"task {task!r}, header {key!r}: {checks.shown(value)} is no text; headers are text to text"
            )
        if not (checks.is_utf8(key) and checks.is_utf8(value)):
            raise SerializationError(f"task {task!r}, header {key!r}: {checks.shown(value)} is not valid Unicode")
    return headers
