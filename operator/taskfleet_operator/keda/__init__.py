"""An external scaler for KEDA: it answers KEDA's gRPC calls with the autoscaler's recommendation."""

from __future__ import annotations
