"""Keeps an object for ever, for what a forked child has from its parent and must not touch."""

from __future__ import annotations


def never_finalise(thing: object) -> None:
    """Let `thing` never be finalised, not even at the exit of the interpreter."""
    import ctypes  # only here: it takes 0.4 MB of memory, and few processes are forked

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
