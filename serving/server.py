"""The gRPC server: a model, its queue, the services, and their limits.

Synchronous grpcio, measured against grpc.aio with an executor by `python -m serving.benchmarks.transport`: CPU per
frame over the bare loop's, on a trivial model on two idle cores, one client / four calls at once: synchronous
1.24 / 1.24, asynchronous 1.33 / 1.29, this server 1.35 / 1.26. So asyncio costs more, and its event loop would be one
more thread between a frame and its thread.
Binds to loopback unless told otherwise, in the clear.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.batching import InferenceQueue
from serving.errors import InputError
from serving.frames import MAX_PIXELS
from serving.model import Model
from serving.services.answers import Answerer
from serving.services.calls import Calls
from serving.services.health import SERVICE, Health
from serving.services.reflection import Reflection
from serving.services.segmentation import MAX_OPENING, SegmentationService
from serving.services.stream import DEPTH

SPARE_THREADS = 8
"""For calls that hold nothing and end soon: refusals, health checks and descriptions."""
MAX_IDLE_CALLS = 16
"""Health watches and reflection calls at the same time; each holds a thread for as long as its caller likes."""
CALLS_PER_THREAD = 4
"""Calls at once, by the threads: a burst waits for a thread, what is more is refused before it is read."""
KEEPALIVE_SECONDS = (20.0, 10.0)
"""A connection with a call on it is pinged so often, and closed if the answer takes so long: a camera that vanished
without a word gives back its stream within their sum."""
HOLD_SECONDS, LAST_SECONDS = 0.1, 0.5
"""At the end of `stop`: refusals are held so long, until gRPC begins to shut down, and then have so long to leave."""


class Limits(BaseModel):
    """What a server allows at most."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_pixels: Annotated[int, Field(gt=0)] = MAX_PIXELS
    """A frame's width x height, checked before it is decoded."""
    max_message_bytes: Annotated[int, Field(gt=0, lt=2**31)] = 2**25
    """A request's bytes. The default holds raw RGB frames up to 3840 x 2160."""
    places: Annotated[int, Field(gt=0)] = 64
    """Frames held at once from arrival to mask: one for each call of Segment, two for each stream."""
    max_streams: Annotated[int, Field(ge=0)] = 16
    """Streams at the same time; they may not take all places."""
    max_in_flight: Annotated[int, Field(gt=0)] = 16
    """Frames held for one stream: the default, and the most that a client may ask for."""

    @model_validator(mode="after")
    def _streams_leave_places(self) -> "Limits":
        if self.max_streams * DEPTH >= self.places:
            raise InputError(
                f"max_streams: {self.max_streams} streams take {self.max_streams * DEPTH} of {self.places} places; "
                f"at most {(self.places - 1) // DEPTH} leave one for calls of Segment"
            )
        return self


class Server:
    """A server of one model; `start` and `stop` it from any thread.

    Parameters
    ----------
    model
        A loaded model, so warm.
    address
        HOST:PORT to listen at; port 0 takes a free one.
    limits
        What it allows at most.

    Raises
    ------
    InputError
        If the address cannot be bound.

    Examples
    --------
    >>> server = Server(Model.load("model.onnx"))  # doctest: +SKIP
    >>> server.start()  # doctest: +SKIP
    >>> server.address  # doctest: +SKIP
    '127.0.0.1:41235'
    >>> server.stop()  # doctest: +SKIP
    """

    def __init__(self, model: Model, address: str = "127.0.0.1:0", limits: Limits | None = None) -> None:
        limits = limits or Limits()
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise InputError(f"address: '{address}'; should be HOST:PORT, such as 127.0.0.1:50051")
        self._queue = InferenceQueue(model, capacity=limits.places)
        self._service = SegmentationService(
            Answerer(model, self._queue, max_pixels=limits.max_pixels),
            max_streams=limits.max_streams,
            max_in_flight=limits.max_in_flight,
        )
        self._idle = Calls("idle calls", MAX_IDLE_CALLS)
        # Whoever may hold a thread for long is counted: calls by their places, streams, streams that have not sent
        # their config, and idle calls; so the spare ones are free for what ends soon. Only a request that trickles in
        # holds one uncounted.
        threads = limits.places + limits.max_streams + MAX_OPENING + MAX_IDLE_CALLS + SPARE_THREADS
        ping, patience = (int(seconds * 1000) for seconds in KEEPALIVE_SECONDS)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._server = grpc.server(
            self._threads,
            maximum_concurrent_rpcs=threads * CALLS_PER_THREAD,
            options=(
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", -1),  # bounded by max_pixels
                ("grpc.so_reuseport", 0),  # else two servers share a port, and nobody is told
                ("grpc.keepalive_time_ms", ping),
                ("grpc.keepalive_timeout_ms", patience),
                ("grpc.http2.ping_timeout_ms", patience),  # else a minute, whatever the line above says
                ("grpc.http2.max_pings_without_data", 0),  # no limit: a silent stream is pinged all the same
                ("grpc.http2.min_ping_interval_without_data_ms", ping // 2),  # what clients may do likewise
            ),
        )
        pb_grpc.add_SegmentationServiceServicer_to_server(self._service, self._server)
        self._health = Health(self._idle)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(services, self._idle), self._server)
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            self._queue.close()
            raise InputError(
                f"address: cannot listen at '{address}'; is the port in use, or the host unknown? ({error})"
            ) from error
        self.address: str = f"{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._server.start()
        self._health.set_serving(True)

    def stop(self, grace: float = 10.0) -> None:
        """Drain and end: take nothing new, answer what was taken, then end the idle calls, which nobody waits for.

        While it drains the server still answers, new calls with UNAVAILABLE and health checks with NOT_SERVING.

        Parameters
        ----------
        grace
            Seconds after which what is still unanswered is cancelled.
        """
        self._health.set_serving(False)
        deadline = time.monotonic() + grace
        self._service.drain(grace)
        self._idle.close()
        self._service.hold_refusals(True)
        time.sleep(max(0.0, min(HOLD_SECONDS, deadline - time.monotonic())))
        stopped = self._server.stop(max(0.0, min(LAST_SECONDS, deadline - time.monotonic())))
        self._service.hold_refusals(False)
        stopped.wait()
        self._queue.close()
        self._threads.shutdown(wait=False)
