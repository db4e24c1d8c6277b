"""The worker as a member of the fleet: leases, heartbeat, cordon and drain."""

from __future__ import annotations
