"""The bench: Taskfleet and its peers on the same Redis, side by side in one run.

`python -m bench --help` says how; `bench/README.md` says how a peer is added.
"""

from __future__ import annotations
