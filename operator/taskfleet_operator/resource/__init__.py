"""The `TaskQueue` resource: models, rules, the CRD, manifests."""

from __future__ import annotations
