"""The Kubernetes operator of Taskfleet: the resource, reconciling, the autoscaler, the local fleet."""

from __future__ import annotations
