"""`onepixel.v1.SegmentationService`: converts, asks, and converts back."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import grpc
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.errors import Closed, Expired, InputError, QueueFull, Unauthenticated
from serving.services.answers import Answerer
from serving.services.calls import Calls
from serving.services.statuses import answers_errors, streams_errors
from serving.services.stream import Stream
from serving.settings import Limits

SERVICE = pb.DESCRIPTOR.services_by_name["SegmentationService"].full_name
CONFIG_SECONDS = 10.0
"""How long a stream may take to send its config; until then it counts to `MAX_OPENING`, and to no other limit."""
MAX_OPENING = 16
"""Streams at the same time that have not sent their config; each holds two threads, and no place."""


class SegmentationService:
    """The service over the models behind a queue.

    Parameters
    ----------
    answerer
        What answers.
    limits
        How many streams and clients there may be, and how many frames a stream may have the server hold.
    accepted
        Where the calls that hold frames are counted.
    """

    def __init__(self, answerer: Answerer, limits: Limits, accepted: Calls) -> None:
        self._answerer = answerer
        self._metrics = answerer.metrics
        self._limits = limits
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()  # streams by client
        self._accepted = accepted
        self._opening = Calls("streams without a config", MAX_OPENING, per_client=max(1, MAX_OPENING // 4))

    def end_openings(self) -> None:
        """End the streams that have not sent their config, and let no more in."""
        self._opening.close()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what gRPC calls; answers that hold masks are serialised already."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                # To gRPC's clients the same as a handler of one message, but the message is read when it is asked for:
                # a full queue refuses before that.
                "Segment": grpc.stream_unary_rpc_method_handler(
                    self.Segment, request_deserializer=pb.SegmentRequest.FromString
                ),
                "StreamSegment": grpc.stream_stream_rpc_method_handler(
                    self.StreamSegment, request_deserializer=pb.StreamSegmentRequest.FromString
                ),
                "GetModelInfo": grpc.unary_unary_rpc_method_handler(
                    self.GetModelInfo,
                    request_deserializer=pb.GetModelInfoRequest.FromString,
                    response_serializer=pb.GetModelInfoResponse.SerializeToString,
                ),
            },
        )

    @answers_errors
    def Segment(self, requests: Iterator[pb.SegmentRequest], context: grpc.ServicerContext) -> bytes:
        """Segment the frame of one request; returns a serialised `SegmentResponse`."""
        arrived = time.monotonic()
        answerer = self._answerer
        caller = answerer.caller(context)
        with answerer.counted(caller) as counted:
            self._accepted.enter(context, lambda: None, caller.client)
            deadline = arrived + context.time_remaining()
            with answerer.queue.enter(caller.client, deadline=deadline):
                request = next(requests, None)
                if request is None:
                    raise InputError("Segment: no request")
                counted.frame = frame = request.frame
                counted.model = answerer.repository.find(request.model_name, request.model_version)
                options = wire.SegmentOptions.from_message(request.options)
                if options.max_age is not None:
                    deadline = min(deadline, arrived + options.max_age)
                read = partial(wire.frame_pixels, frame, answerer.max_pixels)
                started = answerer.start(counted.model, read, caller, deadline, at_once=True, message=frame)
                if not context.add_callback(started.future.cancel):
                    started.future.cancel()
                segmentation = answerer.finish(started, options)
        return b"".join(wire.length_delimited(pb.SegmentResponse.SEGMENTATION_FIELD_NUMBER, segmentation))

    @streams_errors
    def StreamSegment(
        self, requests: Iterator[pb.StreamSegmentRequest], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Segment a camera's frames, in order; yields serialised `StreamSegmentResponse`s."""
        answerer, config = self._answerer, self._first_message(requests, context)
        find = partial(answerer.repository.find, config.model_name, config.model_version)
        find()  # an unknown model is the stream's fault, not each frame's
        options = wire.SegmentOptions.from_message(config.options)
        policy = wire.enum_member(
            config.overflow_policy, wire.OverflowPolicy, pb.OverflowPolicy, "config.overflow_policy"
        )
        most = self._limits.max_in_flight
        if config.max_in_flight > most:
            raise InputError(f"config.max_in_flight: {config.max_in_flight}; this server allows {most}")
        caller = answerer.caller(context)
        stream = Stream(
            answerer,
            find,
            caller,
            options,
            max_in_flight=config.max_in_flight or min(self._limits.default_in_flight, most),
            overflow_policy=policy or wire.OverflowPolicy.BLOCK,
        )
        with self._admit_stream(caller.client):
            self._accepted.enter(context, lambda: stream.end_input(Closed("the server is draining")), caller.client)
            if context.add_callback(stream.cancel):
                read = partial(_read, requests, stream, answerer.stays_known(context))
                threading.Thread(target=read, name="stream reader", daemon=True).start()
                yield from stream.responses()

    @answers_errors
    def GetModelInfo(self, request: pb.GetModelInfoRequest, context: grpc.ServicerContext) -> pb.GetModelInfoResponse:
        """Describe a served model."""
        self._accepted.enter(context, lambda: None)
        model = self._answerer.repository.find(request.model_name, request.model_version)
        return pb.GetModelInfoResponse(model=wire.model_message(model))

    def _first_message(
        self, requests: Iterator[pb.StreamSegmentRequest], context: grpc.ServicerContext
    ) -> pb.StreamConfig:
        # Read on a thread of its own, so that neither a silent client nor its silence during a drain holds this one.
        inbox: queue.SimpleQueue[pb.StreamSegmentRequest | Exception] = queue.SimpleQueue()
        client = self._answerer.caller(context).client
        leave = self._opening.enter(context, lambda: inbox.put(Closed("the server is draining")), client)
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
    def _admit_stream(self, client: str) -> Iterator[None]:
        limits = self._limits
        with self._lock:
            if self._open.total() >= limits.max_streams:
                raise QueueFull(f"all {limits.max_streams} streams are taken; retry later")
            if self._open[client] >= limits.max_streams_per_client:
                raise QueueFull(f"all {limits.max_streams_per_client} streams of this client are taken; end one")
            self._open[client] += 1
        try:
            with self._metrics.streams.track_inprogress():
                yield
        finally:
            with self._lock:
                self._open[client] -= 1
                self._open += Counter()  # forgets clients that have none


def _read_first(
    requests: Iterator[pb.StreamSegmentRequest], inbox: queue.SimpleQueue[pb.StreamSegmentRequest | Exception]
) -> None:
    try:
        inbox.put(next(requests, pb.StreamSegmentRequest()))
    except Exception as error:
        inbox.put(error)


def _read(requests: Iterator[pb.StreamSegmentRequest], stream: Stream, stays_known: Callable[[], bool]) -> None:
    try:
        for request in requests:
            if not stays_known():
                stream.end_input(Unauthenticated("stream: the token is not known any more"))
                return
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
