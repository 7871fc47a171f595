"""One camera's stream: every frame that arrives gets exactly one outcome, in order.

The reader's thread calls `accept`, which applies the overflow policy; the handler's thread runs `responses`, which
decodes a frame while the engine has the one before, and sends. What is held is bounded: `max_in_flight` frames,
and a few outcomes of dropped ones behind a client that does not read; past those nothing more is read, and flow
control reaches the camera.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from google.rpc import code_pb2
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.batching import Inference
from serving.errors import Expired
from serving.metrics import Outcome
from serving.model import Model
from serving.repository import UnknownModel
from serving.services.answers import Answerer, Started
from serving.services.statuses import Caller, outcome_of, status_of
from serving.wire import OverflowPolicy, SegmentOptions

DEPTH = 2
"""Frames of one stream past decoding: one in the engine, one ready for it."""
MAX_UNSENT = 1024
"""Outcomes that wait for a client that does not read."""


class _Entry:
    """A frame from its arrival until its outcome is sent."""

    def __init__(self, frame: pb.Frame, arrived: float) -> None:
        self.frame: pb.Frame | None = frame
        self.arrived = arrived
        self.held = True  # counts to max_in_flight
        self.taken = False  # counts to DEPTH
        self.started: Started | None = None
        self.outcome = Outcome.MASK
        self.segmentation: wire.Chunks = []
        self.response = pb.StreamSegmentResponse(
            camera_id=frame.camera_id[: wire.MAX_CAMERA_ID], sequence=frame.sequence
        )
        if frame.HasField("capture_time"):
            self.response.capture_time.seconds = frame.capture_time.seconds
            self.response.capture_time.nanos = frame.capture_time.nanos

    def drop(self, reason: pb.DropReason, outcome: Outcome) -> None:
        self.response.dropped.reason = reason
        self.outcome = outcome
        self.frame = None

    def fail(self, error: Exception) -> None:
        self.outcome = outcome_of(error)
        if isinstance(error, Expired):
            self.drop(pb.DROP_REASON_EXPIRED, Outcome.EXPIRED)
            return
        code, message = status_of(error)
        self.response.error.code = code_pb2.Code.Value(code.name)
        self.response.error.message = message

    def serialise(self) -> bytes:
        """Return the `StreamSegmentResponse`."""
        number = pb.StreamSegmentResponse.SEGMENTATION_FIELD_NUMBER
        segmentation = wire.length_delimited(number, self.segmentation) if self.segmentation else []
        return b"".join([self.response.SerializeToString(), *segmentation])

    def ready(self) -> bool:
        # A mask still has to be resized and encoded, on the handler's thread.
        return self.response.WhichOneof("outcome") is not None or (
            self.started is not None and self.started.future.done()
        )


class Stream:
    """The state of one stream.

    Parameters
    ----------
    answerer
        What answers.
    find
        Returns the model that answers the next frame: the newest version may be another by then.
    caller
        Whose stream it is.
    options
        What each answer should hold.
    max_in_flight
        Frames held at most, from arrival until their outcome is sent.
    overflow_policy
        What happens to a frame that arrives while that many are held.
    """

    def __init__(
        self,
        answerer: Answerer,
        find: Callable[[], Model],
        caller: Caller,
        options: SegmentOptions,
        *,
        max_in_flight: int,
        overflow_policy: OverflowPolicy,
    ) -> None:
        self._answerer = answerer
        self._metrics = answerer.metrics
        self._find = find
        self._caller = caller
        self._options = options
        self._max_in_flight = max_in_flight
        self._policy = overflow_policy
        self._changed = threading.Condition()
        self._entries: deque[_Entry] = deque()  # in order of arrival, until sent
        self._waiting: deque[_Entry] = deque()  # those of them that may still be dropped
        self._held = 0
        self._taken = 0
        self._input_ended = False
        self._input_error: Exception | None = None
        self._cancelled = False

    def accept(self, frame: pb.Frame) -> bool:
        """Take a frame that arrived; blocks while the policy or a client that does not read demands it.

        Returns
        -------
        Whether it was taken: not after `end_input` or `cancel`.
        """
        entry = _Entry(frame, time.monotonic())
        with self._changed:
            self._changed.wait_for(lambda: self._input_ended or self._cancelled or self._has_room())
            if self._input_ended or self._cancelled:
                return False
            self._metrics.received()
            if self._held >= self._max_in_flight and self._policy is OverflowPolicy.DROP_OLDEST and self._waiting:
                self._drop(self._waiting.popleft())
            self._entries.append(entry)
            self._held += 1
            if self._held > self._max_in_flight:
                self._drop(entry)
            else:
                self._waiting.append(entry)
            self._changed.notify_all()
        return True

    def end_input(self, error: Exception | None = None) -> None:
        """Take no more frames; those taken are still answered, then `responses` ends, or raises `error`."""
        with self._changed:
            if not self._input_ended:
                self._input_ended, self._input_error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Forget everything: nobody listens any more."""
        with self._changed:
            self._cancelled = True
            for entry in self._entries:
                if entry.started is not None:
                    entry.started.future.cancel()
                entry.outcome = Outcome.CANCELLED
                self._end(entry)
            self._entries.clear()
            self._waiting.clear()
            self._changed.notify_all()

    def responses(self) -> Iterator[bytes]:
        """Yield the outcomes in order, serialised, until the input has ended and all are sent.

        Raises
        ------
        Exception
            What `end_input` was given.
        """
        try:
            while (entry := self._next()) is not None:
                if entry.frame is not None:
                    self._start(entry, entry.frame)
                    continue
                if entry.started is not None:
                    self._finish(entry, entry.started)
                self._end(entry)
                yield entry.serialise()
                with self._changed:
                    self._held -= entry.held
                    self._taken -= entry.taken
                    self._changed.notify_all()
            if self._input_error is not None and not self._cancelled:
                raise self._input_error
        finally:
            self.cancel()

    def _has_room(self) -> bool:
        if len(self._entries) >= max(MAX_UNSENT, self._max_in_flight):
            return False
        return self._policy is not OverflowPolicy.BLOCK or self._held < self._max_in_flight

    def _drop(self, entry: _Entry) -> None:
        entry.drop(pb.DROP_REASON_OVERFLOW, Outcome.OVERFLOW)
        entry.held = False
        self._held -= 1

    def _next(self) -> _Entry | None:
        """Wait for the next thing to do: a frame to start, or else an outcome to send; None at the end."""
        with self._changed:
            while not self._cancelled:
                if self._waiting and self._taken < DEPTH:
                    self._taken += 1
                    entry = self._waiting.popleft()
                    entry.taken = True
                    return entry
                if self._entries and self._entries[0].ready():
                    return self._entries.popleft()
                if not self._entries and self._input_ended:
                    return None
                self._changed.wait()
        return None

    def _start(self, entry: _Entry, frame: pb.Frame) -> None:
        max_age = self._options.max_age
        deadline = None if max_age is None else entry.arrived + max_age
        place = None
        try:
            model = self._find()
            place = self._answerer.queue.enter(self._caller.client, refuse=False)
            read = partial(wire.frame_pixels, frame, self._answerer.max_pixels)
            started = self._answerer.start(model, read, self._caller, deadline, patient=True, message=frame)
        except Exception as error:
            self._fail(entry, error)
            if place is not None:
                place.leave()
        else:
            with self._changed:
                entry.started = started
                if self._cancelled:
                    started.future.cancel()
            # Not when its outcome is sent: a client that does not read would keep others from the engine.
            started.future.add_done_callback(lambda _: place.leave())
            started.future.add_done_callback(self._notify)
        entry.frame = None

    def _finish(self, entry: _Entry, started: Started) -> None:
        try:
            entry.segmentation = self._answerer.finish(started, self._options)
        except Exception as error:
            self._fail(entry, error)

    def _fail(self, entry: _Entry, error: Exception) -> None:
        entry.fail(error)
        self._answerer.refused(self._caller, entry.response.camera_id, entry.response.sequence, error)

    def _end(self, entry: _Entry) -> None:
        model = entry.started.model if entry.started else None
        if model is None:
            with suppress(UnknownModel):
                model = self._find()
        self._metrics.ended(entry.outcome, model)

    def _notify(self, _: Future[Inference]) -> None:
        with self._changed:
            self._changed.notify_all()
