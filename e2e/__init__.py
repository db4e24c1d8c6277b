"""Taskfleet on a real Kubernetes: the cluster, and the tests that use it."""

from __future__ import annotations
