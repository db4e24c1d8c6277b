"""Never imported by auto_register_tasks; `python -m tests.engine.shop` runs the whole shop."""

from __future__ import annotations

import logging

from taskfleet import TaskQueueBuilder

if __name__ != "__main__":
    raise RuntimeError("this is a program")

logging.basicConfig(level="INFO")
TaskQueueBuilder().initial_workers(2).auto_register_tasks("tests.engine.shop").with_autoscaler().build().run_forever()
