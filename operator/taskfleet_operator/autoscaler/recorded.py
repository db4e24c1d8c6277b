"""Samples and states as plain values, for a record from which a decision can be made again.

The values are those of JSON, with `Infinity`. A field that a later version has added, and one that is missing, does no
harm; a value of another kind is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from .history import ScalingState
from .sample import FleetSample

_SAMPLE = TypeAdapter(FleetSample)
_STATE = TypeAdapter(ScalingState)


def plain_sample(sample: FleetSample) -> Mapping[str, Any]:
    """All fields of a sample."""
    found: Mapping[str, Any] = _SAMPLE.dump_python(sample)
    return found


def plain_state(state: ScalingState) -> Mapping[str, Any]:
    """All fields of a state."""
    found: Mapping[str, Any] = _STATE.dump_python(state)
    return found


def sample_of(values: Mapping[str, Any]) -> FleetSample:
    """The sample of these values. `ValueError` for values that are none."""
    return _SAMPLE.validate_python(values)


def state_of(values: Mapping[str, Any]) -> ScalingState:
    """The state of these values. `ValueError` for values that are none."""
    return _STATE.validate_python(values)
