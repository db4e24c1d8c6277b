"""The calls of the Lua scripts by typed names: their KEYS and ARGV are built, and their replies read, here only."""

from __future__ import annotations
