"""The bounded, deadline-aware queue in front of the engine.

First come, first served, by one thread: ONNX Runtime spreads each inference over the CPU's cores by itself, so a
second one would only make both slower, and frames decode and encode on their callers' threads meanwhile. Frames go
one at a time, because on a CPU a batch of N takes N times as long as one; masks would be the same either way.

A caller first reserves places and keeps them from the arrival of its frames to their masks, so that what is held at
once is bounded, and a full queue refuses before anything is decoded. Work that was cancelled or has expired by its
turn is dropped before any inference is spent on it.
"""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from serving.frames import Pixels
from serving.model import Engine


class QueueFull(Exception):
    """All places are taken."""


class Expired(Exception):
    """The deadline passed before the frame's turn came."""


class Closed(Exception):
    """The queue takes no more work."""


@dataclass(frozen=True)
class Inference:
    """What the engine answered for one frame."""

    class_ids: Pixels
    """uint8 [H, W], of the model's input size."""
    confidence: Pixels
    """uint8 [H, W], 255 x the winning probability."""
    queued_ns: int
    """Nanoseconds from `submit` to the frame's turn."""
    inference_ns: int
    """Nanoseconds in the engine."""


@dataclass(frozen=True)
class _Work:
    frame: Pixels
    deadline: float | None
    submitted_ns: int
    future: Future[Inference]


class InferenceQueue:
    """A queue with one engine behind it; all methods may be called from any thread.

    Parameters
    ----------
    engine
        What answers.
    capacity
        Places; each holds one frame.
    """

    def __init__(self, engine: Engine, *, capacity: int) -> None:
        self._engine = engine
        self._capacity = capacity
        self._places = capacity
        self._closed = False
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @contextmanager
    def reserve(self, places: int = 1) -> Iterator[None]:
        """Hold places while the context lasts.

        Raises
        ------
        QueueFull
            If fewer are free.
        Closed
            After `close`.
        """
        with self._lock:
            if self._closed:
                raise Closed("the server is draining")
            if places > self._places:
                raise QueueFull(f"all {self._capacity} places are taken; retry later")
            self._places -= places
        try:
            yield
        finally:
            with self._lock:
                self._places += places

    def submit(self, frame: Pixels, *, deadline: float | None = None) -> Future[Inference]:
        """Queue a frame; the caller holds a place for it until the future is done.

        Parameters
        ----------
        frame
            uint8 [H, W, 3] RGB, of the model's input size.
        deadline
            By `time.monotonic`; None means none.

        Returns
        -------
        The future inference. Its exception is `Expired` if the deadline passed first, `Closed` after `close`, else
        the engine's own; after `cancel()` the frame is dropped at its turn.
        """
        future: Future[Inference] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(Closed("the server is draining"))
            else:
                self._work.put(_Work(frame, deadline, time.monotonic_ns(), future))
        return future

    def close(self) -> None:
        """Answer what is queued, then end the engine's thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._work.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._answer(work)
            del work  # the next turn may be long in coming

    def _answer(self, work: _Work) -> None:
        if not work.future.set_running_or_notify_cancel():
            return
        if work.deadline is not None and time.monotonic() >= work.deadline:
            work.future.set_exception(Expired("the frame expired before its turn"))
            return
        started = time.monotonic_ns()
        try:
            class_ids, confidence = self._engine.infer(work.frame[None])
        except Exception as error:
            work.future.set_exception(error)
            return
        elapsed = time.monotonic_ns() - started
        work.future.set_result(Inference(class_ids[0], confidence[0], started - work.submitted_ns, elapsed))
