"""What can be known of queues, workers, servers and this process, as reports; a figure that nobody knows is null."""

from __future__ import annotations
