"""The state of a worker: queues, slots, leases, prefetched claims, health.

The other packages of the worker read and change it.
"""

from __future__ import annotations
