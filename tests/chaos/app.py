"""The application of all workers of the suite, of this version and of earlier ones: `tests.chaos.app:queue`."""

from __future__ import annotations

import os
import threading
import time

from taskfleet import TaskQueue
from tests.chaos.kinds import Kind, Notes, Plain, PlainRetried, ledger_folder, queues
from tests.chaos.ledger import Ledger, now
from tests.chaos.old_version import FIRST
from tests.chaos.stories import BEAT_SECONDS, NOTED_SECONDS, starved_seconds


def _beat(ledger: Ledger) -> None:
    """Note when this process got no processor time: on a busy machine that alone can cost a lease.

    And that it is awake: one that stands still and is killed then notes nothing more.
    """
    last, worked = now(), time.process_time()
    while True:
        time.sleep(BEAT_SECONDS)
        woke, works = now(), time.process_time()
        if starved_seconds(woke - last, works - worked) > BEAT_SECONDS + NOTED_SECONDS:
            ledger.note("starved", last, woke)
        ledger.note("awake", woke)
        last, worked = woke, works


def _application() -> TaskQueue:
    first = os.environ.get("CHAOS_ROLE") == FIRST.name
    application = TaskQueue.from_config(queues=[q for q in queues() if not first or q["name"] in FIRST.queues])
    ledger = Ledger(ledger_folder(), f"worker-{os.environ['TASKFLEET_WORKER_NAME']}")
    threading.Thread(target=_beat, args=(ledger,), daemon=True).start()
    if first:
        kinds: list[Kind] = [Plain(), PlainRetried()]
    else:
        from tests.chaos.workload import KINDS  # the first version cannot import them

        kinds = list(KINDS.values())
    for kind in kinds:
        kind.define(application, Notes(ledger))
    return application


queue = _application()
