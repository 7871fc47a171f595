"""From a frame's message to its segmentation: what `Segment` and `StreamSegment` share.

Decoding and resizing to the model's input before the queue, resizing back and encoding after it, both on the
caller's thread; the errors of either, the status that each is on the wire, and the log's line for it.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.batching import Closed, Expired, Inference, InferenceQueue, QueueFull
from serving.errors import InputError
from serving.frames import resize_frame, resize_mask
from serving.masks import encode_mask
from serving.model import Model

logger = logging.getLogger(__name__)


class UnknownModel(LookupError):
    """No such model, or no such version of it, is served."""


_STATUS: tuple[tuple[type[BaseException], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Expired, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Closed, grpc.StatusCode.UNAVAILABLE),
    (CancelledError, grpc.StatusCode.CANCELLED),
    (grpc.RpcError, grpc.StatusCode.CANCELLED),  # of a request's messages: the client has left
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status code and message that stand for an error; what nobody foresaw is INTERNAL, and logged."""
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code, str(error.args[0]) if error.args else code.name.lower()
    logger.error("internal error", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; the server's log says more"


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


def log_refusal(camera_id: str, sequence: int, error: Exception) -> None:
    """Log which camera's frame was refused and why; what overload refuses by the thousand only at debug."""
    level = logging.INFO if isinstance(error, InputError | UnknownModel) else logging.DEBUG
    # Both are the client's text, so quoted and cut.
    logger.log(
        level, "refused: camera %.80r, frame %d: %s: %.300r", camera_id, sequence, type(error).__name__, str(error)
    )


@dataclass(frozen=True)
class Started:
    """A frame that waits for the engine."""

    future: Future[Inference]
    """What the engine will answer."""
    height: int
    """Rows of the frame."""
    width: int
    """Pixels in a row of the frame."""
    decode_ns: int
    """Nanoseconds that decoding and resizing took."""


class Answerer:
    """One model behind its queue.

    Parameters
    ----------
    model
        What answers.
    queue
        The queue in front of it.
    max_pixels
        Limit of a frame's width x height.
    """

    def __init__(self, model: Model, queue: InferenceQueue, *, max_pixels: int) -> None:
        self.model = model
        self.queue = queue
        self._max_pixels = max_pixels

    def start(self, frame: pb.Frame, deadline: float | None) -> Started:
        """Decode a frame and queue it; the caller holds a place.

        Parameters
        ----------
        frame
            The message.
        deadline
            By `time.monotonic`; checked before decoding, and again at the frame's turn.

        Raises
        ------
        Expired
            If the deadline has passed.
        InputError
            If the image cannot be decoded.
        """
        if deadline is not None and time.monotonic() >= deadline:
            raise Expired("the frame expired before its turn")
        began = time.monotonic_ns()
        pixels = wire.frame_pixels(frame, self._max_pixels)
        resized = resize_frame(pixels, *self.model.input_size)
        decode_ns = time.monotonic_ns() - began
        height, width = pixels.shape[:2]
        return Started(self.queue.submit(resized, deadline=deadline), height, width, decode_ns)

    def finish(self, started: Started, options: wire.SegmentOptions, answer: pb.Segmentation) -> None:
        """Wait for the engine and fill the answer in place: a copy of a large mask would cost as much as its encoding.

        Raises
        ------
        Expired
            If the deadline passed first.
        CancelledError
            If the future was cancelled.
        """
        inference = started.future.result()
        began = time.monotonic_ns()
        mask = resize_mask(inference.class_ids, started.height, started.width)
        answer.model_name, answer.model_version = self.model.name, self.model.version
        answer.model_digest = self.model.digest
        planes = [(answer.mask, mask)]
        if options.want_confidence:
            planes.append((answer.confidence, resize_mask(inference.confidence, started.height, started.width)))
        for message, plane in planes:
            message.height, message.width = plane.shape
            message.encoding = wire.enum_value(options.mask_encoding, pb.MaskEncoding)
            message.data = encode_mask(plane, options.mask_encoding)
        if options.want_histogram:
            answer.histogram.extend(np.bincount(mask.ravel(), minlength=len(self.model.metadata.classes)).tolist())
        timing = answer.timing
        timing.decode.FromNanoseconds(started.decode_ns)
        timing.queue.FromNanoseconds(inference.queued_ns)
        timing.inference.FromNanoseconds(inference.inference_ns)
        timing.encode.FromNanoseconds(time.monotonic_ns() - began)
