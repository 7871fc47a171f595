"""Server reflection, v1alpha: the contract for tools such as grpcurl; grpcio's own, bounded."""

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from serving.services.calls import Calls
from serving.services.statuses import streams_errors


class Reflection(reflection.ReflectionServicer):
    """What the server offers.

    Parameters
    ----------
    services
        Full names.
    idle
        Where the calls are counted; each holds a thread until the caller ends it.
    """

    def __init__(self, services: Iterable[str], idle: Calls) -> None:
        super().__init__(services)
        self._idle = idle

    @streams_errors
    def ServerReflectionInfo(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Answer each question."""
        self._idle.enter(context, context.cancel, context.peer())
        yield from super().ServerReflectionInfo(request_iterator, context)
