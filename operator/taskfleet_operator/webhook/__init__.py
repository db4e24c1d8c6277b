"""The validating webhook: the checks of a TaskQueue that need more than its schema, before it is stored."""

from __future__ import annotations
