"""`Application`: the tasks that an application has defined and the options that it has set, without any connection.

`TaskQueue` makes one. The producer, the worker and the scheduler are given it, and each reads from it the part that it
needs; none of them knows the `TaskQueue`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from taskfleet import checks, config, queue_names, security
from taskfleet.middleware import Middleware, Stack
from taskfleet.options import QueueOptions
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Policy
from taskfleet.settings import Settings
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.namespace import CLASS_TASKS, Registry
from taskfleet.tasks.provider_overrides import ProviderOverrides

_MOST_STORED_BYTES = 512 * 1_048_576  # the longest string that Redis holds


class Application:
    """The arguments of a `TaskQueue`, checked, and its tasks. Errors: `ConfigurationError` names the option."""

    def __init__(
        self,
        settings: Settings,
        *,
        queues: Sequence[QueueOptions | Mapping[str, Any] | str],
        result_ttl: float | timedelta,
        max_payload_bytes: int,
        max_result_bytes: int,
        signing_keys: security.Keys | None,
        encryption_keys: security.Keys | None,
        compression: security.Compression | None,
        compression_threshold_bytes: int | None,
        sealing: Policy | None,
        middleware: Sequence[Middleware],
    ) -> None:
        self.settings = settings
        self.result_ttl = checks.seconds("result_ttl", result_ttl)
        self.max_payload_bytes = checks.whole("max_payload_bytes", max_payload_bytes, least=1, most=_MOST_STORED_BYTES)
        self.max_result_bytes = checks.whole("max_result_bytes", max_result_bytes, least=1, most=_MOST_STORED_BYTES)
        self.seal = security.seal_of(
            settings.security,
            signing_keys=signing_keys,
            encryption_keys=encryption_keys,
            compression=compression,
            compression_threshold_bytes=compression_threshold_bytes,
            sealing=sealing,
            stored_limit_bytes=max(max_payload_bytes, max_result_bytes),
        )
        self.registry = Registry()
        self.middleware = Stack(checks.several("middleware", middleware, "instances of Middleware"))
        self.overrides = ProviderOverrides()
        self._options = QueueOptions.of_all(queues, where="queues") | config.queue_options()

    def options_of(self, name: str) -> QueueOptions:
        """The options of a queue, also by the name of one of its partitions. From now on `queue_options` has them."""
        options = self._options.get(name)
        if options is None:
            queue = queue_of(name)
            if queue != name:
                return self.options_of(queue)
            options = self._options[queue] = QueueOptions(queue)
        return options

    def known_options_of(self, name: str) -> QueueOptions:
        """`options_of` for a queue that may be another program's: `queue_options` does not get it.

        A worker takes every queue of `queue_options` for its own.
        """
        queue = queue_of(name)
        return self._options.get(queue) or QueueOptions(queue)

    @property
    def queue_options(self) -> list[QueueOptions]:
        """The options of all queues that this program has named so far."""
        return list(self._options.values())

    @property
    def named_queues(self) -> set[str]:
        """The queues of the options and of the task definitions, and those that class tasks name."""
        by_classes = {definition.options.queue for definition in CLASS_TASKS} - {queue_names.DEFAULT}
        return set(self._options) | {definition.options.queue for definition in self.registry} | by_classes

    def find_task(self, name: str) -> Definition | None:
        """The definition of that name: of this application, or of a class task."""
        return self.registry.find(name) or CLASS_TASKS.find(name)
