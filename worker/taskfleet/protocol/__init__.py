"""The protocol: the records that are kept in Redis or sent to it, and the interface of a broker."""

from __future__ import annotations
