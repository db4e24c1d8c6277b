"""What crosses a border: the records that are kept in Redis or sent to it, and what a broker does."""

from __future__ import annotations
