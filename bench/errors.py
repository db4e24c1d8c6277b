"""What can go wrong with a bench."""

from __future__ import annotations


class BenchError(Exception):
    """One line that says what to do."""


class PeerUnavailable(BenchError):
    """A peer cannot be built or run here: it is skipped, the others are measured."""
