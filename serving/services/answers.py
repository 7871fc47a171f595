"""From a frame to its masks: what every service shares.

Decoding and resizing to the model's input before the queue, resizing back and encoding after it, both on the caller's
thread, measured stage by stage.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc
import numpy as np
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.batching import Inference, InferenceQueue
from serving.errors import Expired
from serving.frames import Pixels, resize_frame, resize_mask
from serving.metrics import Metrics, Outcome
from serving.model import Model
from serving.observers import Observer, Seen
from serving.repository import Repository
from serving.security import Clients
from serving.services.statuses import Caller, log_refusal, outcome_of
from serving.tracing import Tracer


@dataclass(frozen=True)
class Started:
    """A frame that waits for the engine."""

    model: Model
    """What it was given to."""
    caller: Caller
    """Whose it is."""
    future: Future[Inference]
    """What the engine will answer."""
    height: int
    """Rows of the frame."""
    width: int
    """Pixels in a row of the frame."""
    decode_ns: int
    """Nanoseconds that decoding and resizing took."""


@dataclass
class Counted:
    """A frame that is being counted."""

    model: Model | None = None
    """What it is for, once that is known."""
    frame: pb.Frame = field(default_factory=pb.Frame)
    """What it is, once that is read."""


class Answerer:
    """The served models behind one queue.

    Parameters
    ----------
    repository
        What answers.
    queue
        The queue in front of it.
    max_pixels
        Limit of a frame's width x height.
    metrics
        Where frames are counted; None means new ones.
    clients
        Tells which client a call is from.
    tracer
        Where frames are traced; None means nowhere.
    """

    def __init__(
        self,
        repository: Repository,
        queue: InferenceQueue,
        *,
        max_pixels: int,
        metrics: Metrics | None = None,
        clients: Clients | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.repository = repository
        self.queue = queue
        self.max_pixels = max_pixels
        self.metrics = metrics or Metrics(queue, repository.models)
        self._clients = clients or Clients()
        self._tracer = tracer
        self.observers: tuple[Observer, ...] = ()
        """Who is shown answered frames; set before the first one."""

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """Tell who makes a call."""
        return Caller(context, self._clients.of(context))

    def stays_known(self, context: grpc.ServicerContext) -> Callable[[], bool]:
        """Return what tells whether a call's token is still known."""
        return self._clients.stays_known(context)

    @contextmanager
    def counted(self, caller: Caller) -> Iterator["Counted"]:
        """Count a frame that a call holds: its arrival, and what became of it by how the context ends."""
        self.metrics.received()
        counted = Counted()
        try:
            yield counted
        except Exception as error:
            self.metrics.ended(outcome_of(error), counted.model)
            self.refused(caller, counted.frame.camera_id, counted.frame.sequence, error)
            raise
        self.metrics.ended(Outcome.MASK, counted.model)

    def refused(self, caller: Caller, camera_id: str, sequence: int, error: Exception) -> None:
        """Tell the log, and the trace, of a frame that gets no mask."""
        log_refusal(caller, camera_id, sequence, error)
        if self._tracer is not None:
            self._tracer.refused(caller, error)

    def start(
        self,
        model: Model,
        read: Callable[[], Pixels],
        caller: Caller,
        deadline: float | None,
        *,
        patient: bool = False,
        at_once: bool = False,
        message: pb.Frame | None = None,
    ) -> Started:
        """Decode a frame and queue it; the caller has a place.

        Parameters
        ----------
        model
            What should answer.
        read
            Returns the frame, uint8 [H, W, 3] RGB.
        caller
            Whose it is.
        deadline
            By `time.monotonic`; checked before decoding, and again at the frame's turn.
        patient
            Whether the frame may wait longer than `queue.max_wait`.
        at_once
            Whether the caller has nothing else to do until the engine has answered.
        message
            The frame as it came, for observers; None where it came through another protocol.

        Raises
        ------
        Expired
            If the deadline has passed.
        InputError
            If the image cannot be decoded.
        CancelledError
            If the caller has left meanwhile.
        """
        if deadline is not None and time.monotonic() >= deadline:
            raise Expired("the frame expired before its turn")
        began = time.monotonic_ns()
        pixels = read()
        resized = resize_frame(pixels, *model.input_size)
        decode_ns = time.monotonic_ns() - began
        self.metrics.stage("decode", decode_ns)
        if not caller.is_there():
            raise CancelledError
        future = self.queue.submit(
            model,
            resized,
            client=caller.client,
            deadline=deadline,
            patient=patient,
            cost=decode_ns * 1e-9,
            at_once=at_once,
        )
        future.add_done_callback(partial(self._count, model))
        if self.observers:
            future.add_done_callback(partial(self._show, model, resized, read, message))
        height, width = pixels.shape[:2]
        return Started(model, caller, future, height, width, decode_ns)

    def wait(self, started: Started) -> Inference:
        """Wait for the engine.

        Raises
        ------
        Expired
            If the deadline came first.
        CancelledError
            If the future was cancelled.
        """
        inference = started.future.result()
        self.metrics.stage("queue", inference.queued_ns)
        self.metrics.stage("inference", inference.inference_ns)
        return inference

    def finish(self, started: Started, options: wire.SegmentOptions) -> wire.Chunks:
        """Wait for the engine and serialise the frame's `Segmentation`.

        Raises
        ------
        Expired, CancelledError
            As of `wait`.
        """
        inference = self.wait(started)
        began = time.monotonic_ns()
        model = started.model
        rest = pb.Segmentation(model_name=model.name, model_version=model.version, model_digest=model.digest)
        mask = resize_mask(inference.class_ids, started.height, started.width)
        confidence = None
        if options.want_confidence:
            plane = resize_mask(inference.confidence, started.height, started.width)
            confidence = wire.mask_chunks(plane, options.mask_encoding)
        if options.want_histogram:
            rest.histogram.extend(np.bincount(mask.ravel(), minlength=len(model.metadata.classes)).tolist())
        masks = wire.mask_chunks(mask, options.mask_encoding)
        encode_ns = time.monotonic_ns() - began
        self.metrics.stage("encode", encode_ns)
        if self._tracer is not None:
            self._tracer.answered(started, inference, encode_ns)
        timing = rest.timing
        timing.decode.FromNanoseconds(started.decode_ns)
        timing.queue.FromNanoseconds(inference.queued_ns)
        timing.inference.FromNanoseconds(inference.inference_ns)
        timing.encode.FromNanoseconds(encode_ns)
        return wire.segmentation_chunks(rest, masks, confidence)

    def _count(self, model: Model, future: Future[Inference]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.metrics.inferred(model, future.result().batch)

    def _show(
        self,
        model: Model,
        resized: Pixels,
        read: Callable[[], Pixels],
        message: pb.Frame | None,
        future: Future[Inference],
    ) -> None:
        if not future.cancelled() and future.exception() is None:
            seen = Seen(model, resized, future.result(), read, message)
            for observer in self.observers:
                observer.show(seen)
