"""What stops a cluster: one line that says what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster, or a part of it, cannot be had here."""
