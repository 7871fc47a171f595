"""Bytes that are no message: answered with INVALID_ARGUMENT.

gRPC's own way with what a deserialiser refuses is INTERNAL, a traceback in the log, and a call that is never freed
(grpcio 1.85: 16 KB and one of the connection's streams for each), so that it must not see the refusal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import InputError


@dataclass(frozen=True)
class _Malformed:
    reason: str


class MalformedInterceptor(grpc.ServerInterceptor):
    """Reads every request in a way that does not fail, and refuses what is no message."""

    def __init__(self) -> None:
        self._wrapped: dict[str, tuple[Any, Any]] = {}  # handlers that are served, by method

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the method's handler."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        known = self._wrapped.get(handler_call_details.method)
        if known is None or known[0] is not handler:
            known = self._wrapped[handler_call_details.method] = (handler, self._wrap(handler))
        return known[1]

    def _wrap(self, handler: Any) -> Any:
        read = handler.request_deserializer

        def lenient(data: bytes) -> Any:
            try:
                return read(data)
            except DecodeError as error:
                return _Malformed(str(error))

        name = next(kind for kind in _KINDS if getattr(handler, kind))
        behaviour = getattr(handler, name)
        wrapped = _of_stream(behaviour) if handler.request_streaming else _of_one(behaviour)
        return handler._replace(request_deserializer=lenient, **{name: wrapped})


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def _of_one(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, _Malformed):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.reason)
        return behaviour(request, context)

    return call


def _of_stream(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    def checked(requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            if isinstance(request, _Malformed):
                raise InputError(request.reason)
            yield request

    return lambda requests, context: behaviour(checked(requests), context)
