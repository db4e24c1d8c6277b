"""The control loops: reconciling the children, scaling the workers, telling in status."""

from __future__ import annotations
