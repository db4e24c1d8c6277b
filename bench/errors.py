"""The error of the bench."""

from __future__ import annotations


class BenchError(Exception):
    """The bench cannot go on; the message is one line that says what to do."""


class PeerUnavailable(BenchError):
    """A peer cannot be built or run here: it is skipped, the others are measured."""
