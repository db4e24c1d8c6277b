"""Typed calls of the Lua scripts: the only place where their KEYS and ARGV are built and their replies are read."""

from __future__ import annotations
