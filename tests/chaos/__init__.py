"""The crash suite: real workers, a real Redis, faults, and a ledger outside the queue.

`python -m tests.chaos --help`; docs/development/chaos.md says how to read what it prints.
"""

from __future__ import annotations
