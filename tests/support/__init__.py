"""Support of the tests: real servers, processes, proxies and views into a queue. tests/README.md lists them."""

from __future__ import annotations
