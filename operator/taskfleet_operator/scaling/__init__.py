"""The control loop that the operator and `taskfleet up` share: observe, decide, carry out, report."""

from __future__ import annotations
