"""The messages between KEDA and an external scaler, as KEDA's `externalscaler.proto` numbers them.

The descriptors are built here, not by `protoc`: generated code runs only with one or two major versions of protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "externalscaler.ExternalScaler"

_Field = descriptor_pb2.FieldDescriptorProto
_PLAIN: dict[str, tuple[tuple[str, int, Any], ...]] = {
    "IsActiveResponse": (("result", 1, _Field.TYPE_BOOL),),
    "MetricSpec": (
        ("metricName", 1, _Field.TYPE_STRING),
        ("targetSize", 2, _Field.TYPE_INT64),
        ("targetSizeFloat", 3, _Field.TYPE_DOUBLE),
    ),
    "MetricValue": (
        ("metricName", 1, _Field.TYPE_STRING),
        ("metricValue", 2, _Field.TYPE_INT64),
        ("metricValueFloat", 3, _Field.TYPE_DOUBLE),
    ),
    "ScaledObjectRef": (("name", 1, _Field.TYPE_STRING), ("namespace", 2, _Field.TYPE_STRING)),
    "GetMetricSpecResponse": (),
    "GetMetricsRequest": (("metricName", 2, _Field.TYPE_STRING),),
    "GetMetricsResponse": (),
}
_NESTED = (  # message, field, number, type of the field, repeated
    ("ScaledObjectRef", "scalerMetadata", 3, "ScaledObjectRef.ScalerMetadataEntry", True),
    ("GetMetricSpecResponse", "metricSpecs", 1, "MetricSpec", True),
    ("GetMetricsRequest", "scaledObjectRef", 1, "ScaledObjectRef", False),
    ("GetMetricsResponse", "metricValues", 1, "MetricValue", True),
)


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """The trigger that a call is about: its ScaledObject, and the `metadata` of the trigger."""

    name: str
    namespace: str
    metadata: Mapping[str, str]


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package="externalscaler", syntax="proto3")
    for message, fields in _PLAIN.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            described.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
        if message == "ScaledObjectRef":
            entry = described.nested_type.add(name="ScalerMetadataEntry")
            entry.options.map_entry = True
            for number, name in ((1, "key"), (2, "value")):
                entry.field.add(name=name, number=number, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    by_name = {described.name: described for described in file.message_type}
    for message, name, number, kind, repeated in _NESTED:
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        by_name[message].field.add(
            name=name, number=number, type=_Field.TYPE_MESSAGE, label=label, type_name=f".externalscaler.{kind}"
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"externalscaler.{name}")) for name in _PLAIN
    }


_MESSAGES = _classes()


def scaled_object(data: bytes) -> ScaledObject:
    """The request of `IsActive`, `StreamIsActive` and `GetMetricSpec`."""
    return _scaled_object(_MESSAGES["ScaledObjectRef"].FromString(data))


def scaled_object_of_metrics(data: bytes) -> ScaledObject:
    """The request of `GetMetrics`. A trigger has one metric, so its name is not needed."""
    return _scaled_object(_MESSAGES["GetMetricsRequest"].FromString(data).scaledObjectRef)


def _scaled_object(reference: Any) -> ScaledObject:
    return ScaledObject(reference.name, reference.namespace, dict(reference.scalerMetadata))


def is_active(active: bool) -> bytes:
    """The reply of `IsActive`, and each message of `StreamIsActive`."""
    return bytes(_MESSAGES["IsActiveResponse"](result=active).SerializeToString())


def metric_spec(metric: str, target: int) -> bytes:
    """The reply of `GetMetricSpec`: one metric, with its target for each replica."""
    spec = {"metricName": metric, "targetSize": target, "targetSizeFloat": float(target)}
    return bytes(_MESSAGES["GetMetricSpecResponse"](metricSpecs=[spec]).SerializeToString())


def metric_value(metric: str, value: float) -> bytes:
    """The reply of `GetMetrics`. KEDA reads the integer where the double is 0."""
    told = {"metricName": metric, "metricValue": round(value), "metricValueFloat": value}
    return bytes(_MESSAGES["GetMetricsResponse"](metricValues=[told]).SerializeToString())
