"""The error of the test cluster."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster, or a part of it, cannot be made here; the message is one line that says what to do."""
