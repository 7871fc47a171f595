"""`grpc.health.v1` for the server as a whole and for each of its services by name.

Not grpcio's own servicer: it holds its lock while it sends to those who watch, and takes it on the thread that every
send needs when one of them leaves; the two together are a server that hangs.
"""

import threading
from collections.abc import Iterable, Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import Closed
from serving.services.calls import Calls
from serving.services.statuses import streams_errors


class Health(health_pb2_grpc.HealthServicer):
    """What the server says of its health: NOT_SERVING until told otherwise.

    Parameters
    ----------
    services
        Full names of what is served.
    idle
        Where those who watch are counted; each holds a thread.
    """

    def __init__(self, services: Iterable[str], idle: Calls) -> None:
        self._services = frozenset(("", *services))
        self._idle = idle
        self._changed = threading.Condition()
        self._serving = False

    def set_serving(self, serving: bool) -> None:
        """Say so to those who ask and to those who watch."""
        with self._changed:
            self._serving = serving
            self._changed.notify_all()

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Say once."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            served = ", ".join(f"'{service}'" for service in sorted(self._services - {""}))
            context.abort(grpc.StatusCode.NOT_FOUND, f"service '{request.service[:80]}' is not served; {served} are")
        return health_pb2.HealthCheckResponse(status=status)

    @streams_errors
    def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Say now and after each change, until the caller leaves or the server has drained."""
        ended = threading.Event()

        def end() -> None:
            ended.set()
            self._wake()

        self._idle.enter(context, end, context.peer())
        context.add_callback(self._wake)
        sent: int | None = None
        while True:
            with self._changed:
                while (status := self._status(request.service)) == sent and context.is_active() and not ended.is_set():
                    self._changed.wait()
            if not context.is_active():
                return
            if status == sent:
                raise Closed("the server is draining")
            yield health_pb2.HealthCheckResponse(status=status)
            sent = status

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        status = health_pb2.HealthCheckResponse
        return int(status.SERVING if self._serving else status.NOT_SERVING)
