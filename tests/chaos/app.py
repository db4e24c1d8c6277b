"""The application of the suite's workers: `taskfleet worker tests.chaos.app:queue`, of the new version or the old."""

from __future__ import annotations

import os
import threading
import time

from taskfleet import TaskQueue
from tests.chaos.kinds import LEASE_SECONDS, Kind, Notes, Plain, PlainRetried, ledger_folder, queues
from tests.chaos.ledger import Ledger, now

_BEAT_SECONDS = 0.2


def _beat(ledger: Ledger) -> None:
    """Note when this process did not get to run: on a busy machine that alone can cost a lease."""
    last = now()
    while True:
        time.sleep(_BEAT_SECONDS)
        woke = now()
        if woke - last > _BEAT_SECONDS + LEASE_SECONDS / 6:
            ledger.note("starved", last, woke)
        last = woke


def _application() -> TaskQueue:
    old = os.environ.get("CHAOS_ROLE") == "old"
    application = TaskQueue.from_config(queues=[q for q in queues() if not old or q["name"] == "mixed"])
    ledger = Ledger(ledger_folder(), f"worker-{os.environ['TASKFLEET_WORKER_NAME']}")
    threading.Thread(target=_beat, args=(ledger,), daemon=True).start()
    if old:
        kinds: list[Kind] = [Plain(), PlainRetried()]
    else:
        from tests.chaos.workload import KINDS  # the old version knows no workflows, and cannot import them

        kinds = list(KINDS.values())
    for kind in kinds:
        kind.define(application, Notes(ledger))
    return application


queue = _application()
