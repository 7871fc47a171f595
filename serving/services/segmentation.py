"""`onepixel.v1.SegmentationService`: converts, asks, and converts back."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import wire
from serving.batching import Closed, Expired, QueueFull
from serving.errors import InputError
from serving.services.answers import Answerer, UnknownModel, answers_errors, log_refusal, streams_errors
from serving.services.calls import Calls
from serving.services.stream import DEPTH, Stream

CONFIG_SECONDS = 10.0
"""How long a stream may take to send its config; until then it counts to `MAX_OPENING`, and to no other limit."""
MAX_OPENING = 16
"""Streams at the same time that have not sent their config; each holds two threads, and no place."""


class SegmentationService(pb_grpc.SegmentationServiceServicer):
    """The service over one model.

    Parameters
    ----------
    answerer
        The model behind its queue.
    max_streams
        Streams at the same time; each holds two threads and `DEPTH` places of the queue.
    max_in_flight
        Frames that the server holds for one stream: the default, and the most that a client may ask for.
    """

    def __init__(self, answerer: Answerer, *, max_streams: int, max_in_flight: int) -> None:
        self._answerer = answerer
        self._max_streams = max_streams
        self._max_in_flight = max_in_flight
        self._lock = threading.Lock()
        self._open = 0
        self._accepted = Calls("calls")
        self._opening = Calls("streams without a config", MAX_OPENING)

    def drain(self, timeout: float) -> None:
        """Take nothing new, and wait until what was taken is answered, or for `timeout` seconds.

        New calls are refused with UNAVAILABLE. No more frames are read from streams; those that were read are
        answered, then each stream ends with UNAVAILABLE, at once if it has not sent its config.
        """
        self._accepted.close()
        self._opening.close()
        self._accepted.wait(timeout)

    def hold_refusals(self, hold: bool) -> None:
        """Keep the refusals of a drained service back, or let them go; see `Calls.hold_refusals`."""
        self._accepted.hold_refusals(hold)

    @answers_errors
    def Segment(self, request: pb.SegmentRequest, context: grpc.ServicerContext) -> pb.SegmentResponse:
        """Segment one frame."""
        self._accepted.enter(context, lambda: None)
        try:
            return self._segment(request, context)
        except Exception as error:
            log_refusal(request.frame.camera_id, request.frame.sequence, error)
            raise

    def _segment(self, request: pb.SegmentRequest, context: grpc.ServicerContext) -> pb.SegmentResponse:
        arrived = time.monotonic()
        answerer = self._find(request.model_name, request.model_version)
        options = wire.SegmentOptions.from_message(request.options)
        deadline = arrived + context.time_remaining()
        if options.max_age is not None:
            deadline = min(deadline, arrived + options.max_age)
        response = pb.SegmentResponse()
        with answerer.queue.reserve():
            started = answerer.start(request.frame, deadline)
            if not context.add_callback(started.future.cancel):
                started.future.cancel()
            answerer.finish(started, options, response.segmentation)
        return response

    @streams_errors
    def StreamSegment(
        self, requests: Iterator[pb.StreamSegmentRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamSegmentResponse]:
        """Segment a camera's frames, in order."""
        config = self._first_message(requests, context)
        answerer = self._find(config.model_name, config.model_version)
        options = wire.SegmentOptions.from_message(config.options)
        policy = wire.enum_member(
            config.overflow_policy, wire.OverflowPolicy, pb.OverflowPolicy, "config.overflow_policy"
        )
        if config.max_in_flight > self._max_in_flight:
            raise InputError(f"config.max_in_flight: {config.max_in_flight}; this server allows {self._max_in_flight}")
        stream = Stream(
            answerer,
            options,
            max_in_flight=config.max_in_flight or self._max_in_flight,
            overflow_policy=policy or wire.OverflowPolicy.BLOCK,
        )
        with self._admit_stream(), answerer.queue.reserve(DEPTH):
            self._accepted.enter(context, lambda: stream.end_input(Closed("the server is draining")))
            if context.add_callback(stream.cancel):
                threading.Thread(target=_read, args=(requests, stream), name="stream reader", daemon=True).start()
                yield from stream.responses()

    @answers_errors
    def GetModelInfo(self, request: pb.GetModelInfoRequest, context: grpc.ServicerContext) -> pb.GetModelInfoResponse:
        """Describe the served model."""
        self._accepted.enter(context, lambda: None)
        answerer = self._find(request.model_name, request.model_version)
        return pb.GetModelInfoResponse(model=wire.model_message(answerer.model))

    def _find(self, name: str, version: str) -> Answerer:
        model = self._answerer.model
        if name not in ("", model.name):
            raise UnknownModel(f"model '{name}' is not served; '{model.name}' is")
        if version not in ("", model.version):
            raise UnknownModel(f"version '{version}' of model '{model.name}' is not served; '{model.version}' is")
        return self._answerer

    def _first_message(
        self, requests: Iterator[pb.StreamSegmentRequest], context: grpc.ServicerContext
    ) -> pb.StreamConfig:
        # Read on a thread of its own, so that neither a silent client nor its silence during a drain holds this one.
        inbox: queue.SimpleQueue[pb.StreamSegmentRequest | Exception] = queue.SimpleQueue()
        leave = self._opening.enter(context, lambda: inbox.put(Closed("the server is draining")))
        try:
            threading.Thread(target=_read_first, args=(requests, inbox), name="stream opener", daemon=True).start()
            first = inbox.get(timeout=CONFIG_SECONDS)
        except queue.Empty:
            raise Expired(f"stream: no config within {CONFIG_SECONDS:g} s") from None
        finally:
            leave()
        if isinstance(first, Exception):
            raise first
        if first.WhichOneof("message") != "config":
            raise InputError("stream: the first message should hold the config")
        return first.config

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


def _read_first(
    requests: Iterator[pb.StreamSegmentRequest], inbox: queue.SimpleQueue[pb.StreamSegmentRequest | Exception]
) -> None:
    try:
        inbox.put(next(requests, pb.StreamSegmentRequest()))
    except Exception as error:
        inbox.put(error)


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
    except Exception as error:  # else `responses` would wait for ever
        stream.end_input(error)
    else:
        stream.end_input()
