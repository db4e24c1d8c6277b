"""What tests start: real servers that end with the test run, however that ends."""

from __future__ import annotations
