"""The bench: Taskfleet and its peers on the same Redis, side by side in one run.

`python -m bench --help` lists the options; `bench/README.md` explains scenarios and peers.
"""

from __future__ import annotations
