"""`onepixel.v1.SegmentationService`: converts, asks, and converts back."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import wire
from serving.batching import Closed, QueueFull
from serving.errors import InputError
from serving.services.answers import Segmenter, UnknownModel, status_of
from serving.services.stream import DEPTH, Stream


def answers_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call that answers once end with the status that stands for what it raised."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except Exception as error:
            context.abort(*status_of(error))

    return call


def streams_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same for a call that answers many times."""

    @functools.wraps(method)
    def call(self: Any, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from method(self, requests, context)
        except Exception as error:
            context.abort(*status_of(error))

    return call


class SegmentationService(pb_grpc.SegmentationServiceServicer):
    """The service over one model.

    Parameters
    ----------
    segmenter
        The model behind its queue.
    max_streams
        Streams at the same time; each holds a thread and `DEPTH` places of the queue.
    max_in_flight
        Frames that the server holds for one stream: the default, and the most that a client may ask for.
    """

    def __init__(self, segmenter: Segmenter, *, max_streams: int, max_in_flight: int) -> None:
        self._segmenter = segmenter
        self._max_streams = max_streams
        self._max_in_flight = max_in_flight
        self._lock = threading.Lock()
        self._open = 0
        self._streams: set[Stream] = set()
        self._draining = False

    def drain(self) -> None:
        """Read no more frames from streams; those that were read are answered, then each ends with UNAVAILABLE."""
        with self._lock:
            self._draining = True
            streams = list(self._streams)
        for stream in streams:
            stream.end_input(Closed("the server is draining"))

    @answers_errors
    def Segment(self, request: pb.SegmentRequest, context: grpc.ServicerContext) -> pb.SegmentResponse:
        """Segment one frame."""
        arrived = time.monotonic()
        segmenter = self._find(request.model_name, request.model_version)
        options = wire.SegmentOptions.from_message(request.options)
        deadline = arrived + context.time_remaining()
        if options.max_age is not None:
            deadline = min(deadline, arrived + options.max_age)
        response = pb.SegmentResponse()
        with segmenter.queue.reserve():
            started = segmenter.start(request.frame, deadline)
            if not context.add_callback(started.future.cancel):
                started.future.cancel()
            segmenter.finish(started, options, response.segmentation)
        return response

    @streams_errors
    def StreamSegment(
        self, requests: Iterator[pb.StreamSegmentRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamSegmentResponse]:
        """Segment a camera's frames, in order."""
        with self._admit_stream():
            first = next(requests, None)
            if first is None or first.WhichOneof("message") != "config":
                raise InputError("stream: the first message should hold the config")
            config = first.config
            segmenter = self._find(config.model_name, config.model_version)
            options = wire.SegmentOptions.from_message(config.options)
            policy = wire.enum_member(
                config.overflow_policy, wire.OverflowPolicy, pb.OverflowPolicy, "config.overflow_policy"
            )
            if config.max_in_flight > self._max_in_flight:
                raise InputError(
                    f"config.max_in_flight: {config.max_in_flight}; this server allows {self._max_in_flight}"
                )
            stream = Stream(
                segmenter,
                options,
                max_in_flight=config.max_in_flight or self._max_in_flight,
                overflow_policy=policy or wire.OverflowPolicy.BLOCK,
            )
            with segmenter.queue.reserve(DEPTH), self._listed(stream):
                if context.add_callback(stream.cancel):
                    threading.Thread(target=_read, args=(requests, stream), name="stream reader", daemon=True).start()
                    yield from stream.responses()

    @answers_errors
    def GetModelInfo(self, request: pb.GetModelInfoRequest, context: grpc.ServicerContext) -> pb.GetModelInfoResponse:
        """Describe the served model."""
        segmenter = self._find(request.model_name, request.model_version)
        return pb.GetModelInfoResponse(model=wire.model_message(segmenter.model))

    def _find(self, name: str, version: str) -> Segmenter:
        model = self._segmenter.model
        if name not in ("", model.name):
            raise UnknownModel(f"model '{name}' is not served; '{model.name}' is")
        if version not in ("", model.version):
            raise UnknownModel(f"version '{version}' of model '{model.name}' is not served; '{model.version}' is")
        return self._segmenter

    @contextmanager
    def _admit_stream(self) -> Iterator[None]:
        with self._lock:
            if self._open >= self._max_streams:
                raise QueueFull(f"all {self._max_streams} streams are taken; retry later")
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    @contextmanager
    def _listed(self, stream: Stream) -> Iterator[None]:
        with self._lock:
            if self._draining:
                raise Closed("the server is draining")
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(stream)


def _read(requests: Iterator[pb.StreamSegmentRequest], stream: Stream) -> None:
    try:
        for request in requests:
            if request.WhichOneof("message") != "frame":
                stream.end_input(InputError("stream: after the first message, each should hold a frame"))
                return
            if not stream.accept(request.frame):
                return
    except grpc.RpcError:  # the call has ended
        stream.cancel()
    else:
        stream.end_input()
