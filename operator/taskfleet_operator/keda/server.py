"""The gRPC server that KEDA calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio

from taskfleet.errors import BrokerConnectionError, ConfigurationError

from . import messages
from .recommendations import Recommendations, ToldRecommendation, TooManyTriggersError
from .trigger import Trigger, trigger_of

METRIC = "taskfleet-replicas"
_TARGET = 1  # the metric is a number of replicas
_MOST_REQUEST_BYTES = 64 * 1024
_STOP_SECONDS = 5.0

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Certificates:
    """The server's certificate and key, and the CA of KEDA's certificate. Without a CA, any client may call."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class ScalerServer:
    """KEDA's service `externalscaler.ExternalScaler`."""

    def __init__(self, recommendations: Recommendations, address: str, certificates: Certificates | None) -> None:
        self._recommendations = recommendations
        self._server = grpc.aio.server(
            options=(("grpc.max_receive_message_length", _MOST_REQUEST_BYTES), ("grpc.so_reuseport", 0))
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            if certificates is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, _credentials(certificates))
        except RuntimeError:
            raise ConfigurationError(f"cannot listen on {address}; choose another --host or --port") from None

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set. Calls under way get 5 s more."""
        await self._server.start()
        try:
            await stop.wait()
        finally:
            await self._server.stop(_STOP_SECONDS)

    def _handlers(self) -> grpc.GenericRpcHandler:
        unary: Any = grpc.unary_unary_rpc_method_handler
        stream: Any = grpc.unary_stream_rpc_method_handler
        of, of_metrics = messages.scaled_object, messages.scaled_object_of_metrics
        return grpc.method_handlers_generic_handler(
            messages.SERVICE,
            {
                "IsActive": unary(self._is_active, request_deserializer=of),
                "StreamIsActive": stream(self._stream_is_active, request_deserializer=of),
                "GetMetricSpec": unary(self._metric_spec, request_deserializer=of),
                "GetMetrics": unary(self._metrics, request_deserializer=of_metrics),
            },
        )

    async def _is_active(self, request: messages.ScaledObject, context: _Context) -> bytes:
        return messages.is_active((await self._recommendation(request, context)).active)

    async def _stream_is_active(self, request: messages.ScaledObject, context: _Context) -> AsyncIterator[bytes]:
        trigger = await _trigger(request, context)
        try:
            async for active in self._recommendations.activity(trigger):
                yield messages.is_active(active)
        except TooManyTriggersError as error:
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, error)

    async def _metric_spec(self, request: messages.ScaledObject, context: _Context) -> bytes:
        await _trigger(request, context)
        return messages.metric_spec(METRIC, _TARGET)

    async def _metrics(self, request: messages.ScaledObject, context: _Context) -> bytes:
        return messages.metric_value(METRIC, (await self._recommendation(request, context)).replicas)

    async def _recommendation(self, request: messages.ScaledObject, context: _Context) -> ToldRecommendation:
        trigger = await _trigger(request, context)
        try:
            return await self._recommendations.now(trigger)
        except BrokerConnectionError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, error)
        except TooManyTriggersError as error:
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, error)


async def _trigger(request: messages.ScaledObject, context: _Context) -> Trigger:
    try:
        return trigger_of(request.metadata)
    except ConfigurationError as error:
        await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{request.namespace}/{request.name}: {error}")


async def _abort(context: _Context, code: grpc.StatusCode, error: object) -> NoReturn:
    await context.abort(code, str(error))


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    try:
        pair = (certificates.key.read_bytes(), certificates.certificate.read_bytes())
        ca = certificates.client_ca.read_bytes() if certificates.client_ca else None
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)
