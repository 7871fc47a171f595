"""The bounded, fair, deadline-aware queue in front of the engine.

One setting says how long a frame may wait; the rest follows from measurement. The queue measures how often a frame
leaves it while it is busy, and so knows how long a frame that comes now would wait. What would wait too long, or past
its deadline, is refused on arrival, before anything is read or decoded; what has waited too long all the same, or can
no longer be answered in time, is dropped at its turn, before any inference is spent on it. A frame that is cancelled
leaves the queue at once.

Clients take turns (`serving.turns`). A turn costs what its frame does, its decoding and its inference, both measured;
so who sends many frames, or large ones, waits for himself.

One thread at a time asks the engine, which spreads an inference over the CPU's cores by itself, so that a second one
would only make both slower; frames decode and encode on their callers' threads meanwhile. Where nothing waits a caller
may ask by itself, which saves two changes of threads.
"""

import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

import numpy as np

from serving.engines import Infers
from serving.errors import Closed, Expired, QueueFull
from serving.frames import Pixels
from serving.settings import QueueSettings
from serving.turns import Turns

SMOOTHING = 0.1
"""Share of the newest measurement in a running mean."""


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
    """Nanoseconds in the engine, for the batch that held the frame."""
    batch: int
    """Frames of that batch."""


@dataclass(frozen=True, eq=False)
class _Work:
    engine: Infers
    frame: Pixels
    deadline: float | None
    patience: float | None
    cost: float
    submitted: float
    future: Future[Inference]


class Place:
    """Frames' places, from their arrival until `leave`; a context manager that leaves."""

    def __init__(self, queue: "InferenceQueue", client: str, frames: int, counted: bool) -> None:
        self._queue = queue
        self.client, self.frames, self.counted = client, frames, counted
        self.left = False

    def leave(self) -> None:
        """Give the places back; only the first time counts."""
        self._queue.leave(self)

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class InferenceQueue:
    """A queue with one thread behind it that asks the engines; all methods may be called from any thread.

    Parameters
    ----------
    capacity
        Frames that `enter` may refuse to exceed.
    settings
        How long a frame may wait, and how batches are made.
    interval
        Seconds that a frame is expected to take until that is measured; 0 means that nobody knows.
    """

    def __init__(self, *, capacity: int, settings: QueueSettings | None = None, interval: float = 0.0) -> None:
        self._capacity = capacity
        self._settings = settings or QueueSettings()
        self._changed = threading.Condition()
        self._waiting: Turns[_Work] = Turns()
        self._held: Counter[str] = Counter()  # frames by client, from arrival to `leave`
        self._counted = 0  # those of them that count to the capacity
        self._closed = False
        self._busy = False  # a thread asks the engine
        self._busy_since: float | None = None
        self._interval = interval  # seconds between the frames that leave a busy queue
        self._costs: WeakKeyDictionary[Infers, float] = WeakKeyDictionary()  # seconds of one frame in the engine
        self._left = 0.0  # when the last frame left
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Frames that wait for the engine."""
        return len(self._waiting)

    @property
    def bound(self) -> int:
        """Frames that all clients together may have here now, by the measured time of a frame."""
        if not self._interval:
            return self._capacity
        return max(1, min(self._capacity, int(self._settings.max_wait / self._interval)))

    @property
    def busy_seconds(self) -> float:
        """How long the engine has been at its present batch; 0 where it is idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def enter(self, client: str = "", *, frames: int = 1, deadline: float | None = None, refuse: bool = True) -> Place:
        """Take places for frames that have arrived together.

        Parameters
        ----------
        client
            Whose they are; clients take turns.
        frames
            How many.
        deadline
            By `time.monotonic`; None means none.
        refuse
            Whether to refuse what would wait too long. A stream holds few frames by itself, and has its own policy.

        Raises
        ------
        QueueFull
            If no place is free, or the first frame would wait longer than `max_wait` or its deadline allows.
        Closed
            After `close`.
        """
        with self._changed:
            if self._closed:
                raise Closed("the server is draining")
            if refuse:
                self._check_room(client, frames, deadline)
                self._counted += frames
            self._held[client] += frames
        return Place(self, client, frames, refuse)

    def leave(self, place: Place) -> None:
        """Take places back, once; see `Place.leave`."""
        with self._changed:
            if place.left:
                return
            place.left = True
            self._counted -= place.frames * place.counted
            self._held[place.client] -= place.frames
            if not self._held[place.client]:
                del self._held[place.client]

    def submit(
        self,
        engine: Infers,
        frame: Pixels,
        *,
        client: str = "",
        deadline: float | None = None,
        patient: bool = False,
        cost: float = 0.0,
        at_once: bool = False,
    ) -> Future[Inference]:
        """Queue a frame; the caller has a place for it until the future is done.

        Parameters
        ----------
        engine
            What answers.
        frame
            uint8 [H, W, 3] RGB, of the engine's input size.
        client
            Whose it is.
        deadline
            By `time.monotonic`; None means none.
        patient
            Whether it may wait longer than `max_wait`.
        cost
            Seconds that it has cost so far; they count to its client's share, as its inference will.
        at_once
            Whether this call may ask the engine itself where nothing waits, and return when it has answered.

        Returns
        -------
        The future inference. Its exception is `Expired` if the deadline came first, `QueueFull` if it waited too long,
        `Closed` after `close`, else the engine's own; after `cancel()` the frame has left the queue.
        """
        future: Future[Inference] = Future()
        now = time.monotonic()
        patience = None if patient else now + self._settings.max_wait
        work = _Work(engine, frame, deadline, patience, cost, now, future)
        with self._changed:
            if self._closed:
                refusal: Exception | None = Closed("the server is draining")
            else:
                if not at_once or self._busy or self._waiting or self._settings.max_batch > 1:
                    self._waiting.add(client, work)
                    reference = ref(work)  # else frame, engine and masks would stay until the garbage is collected
                    future.add_done_callback(lambda _: self._forget(client, reference()))
                    if not self._busy:
                        self._changed.notify()
                    return future
                refusal = self._refusal(work)
                if refusal is None:
                    self._busy = True
                    self._waiting.serve(client, self._cost(work))
        if refusal is None:
            self._answer([work])
        else:
            future.set_exception(refusal)
        return future

    def close(self, timeout: float | None = None) -> bool:
        """Answer what is queued, then end the thread; return whether that was within `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _check_room(self, client: str, frames: int, deadline: float | None) -> None:
        if self._counted + frames > self._capacity:
            raise QueueFull(f"all {self._capacity} places are taken; retry later", self._interval or None)
        if (frames - 1) * self._interval > self._settings.max_wait:
            raise QueueFull(
                f"{frames} frames at once take {frames * self._interval:.3g} s; at most "
                f"{self._settings.max_wait:g} s may be waited: send fewer"
            )
        total, own = self._held.total(), self._held[client]
        if not total:
            return  # whatever was measured: else a wrong measurement would never be mended
        # By turns, one more of each client is served for each of its own. A client may have more than its share only
        # where the others leave half of the room.
        by_turns = (own + 1) * (len(self._held) + (client not in self._held)) - 1
        most = self._settings.max_wait
        wait = by_turns * self._interval
        if wait > most and total * self._interval <= most / 2:
            wait = total * self._interval
        if wait > most:
            raise QueueFull(f"it would wait {wait:.3g} s; at most {most:g} s may be waited", wait - most)
        if deadline is not None and time.monotonic() + wait + self._interval > deadline:
            raise QueueFull(f"it would wait {wait:.3g} s; the deadline is sooner", wait)

    def _cost(self, work: _Work) -> float:
        return work.cost + self._costs.get(work.engine, self._interval)

    def _forget(self, client: str, work: _Work | None) -> None:
        """Take a frame that was cancelled out of its line."""
        if work is not None and work.future.cancelled():
            with self._changed:
                self._waiting.remove(client, work)

    def _serve(self) -> None:
        while self._serve_batch():
            pass

    def _serve_batch(self) -> bool:
        """Serve those whose turn has come; return whether there may be more. Keeps nothing: the next may be long."""
        batch, refused = self._take()
        for work, refusal in refused:
            work.future.set_exception(refusal)  # tells those who wait for it, so not under the lock
        if batch:
            self._answer(batch)
        return bool(batch or refused)

    def _take(self) -> tuple[list[_Work], list[tuple[_Work, Exception]]]:
        """Wait for the next frame that is worth an inference and for those that go with it, or for some that are not.

        Returns
        -------
        The batch, and those that are refused, each with why; none of either after `close`.
        """
        with self._changed:
            while True:
                patience = None
                if self._waiting and not self._busy:
                    patience = self._patience()
                    if patience <= 0:
                        batch, refused = self._pop()
                        self._busy = bool(batch)
                        if batch or refused:
                            return batch, refused
                        continue
                elif self._closed and not self._waiting and not self._busy:
                    return [], []
                self._changed.wait(patience)

    def _patience(self) -> float:
        """Return for how many seconds the frames that wait may wait for others of their batch."""
        if self._closed or len(self._waiting) >= self._settings.max_batch or not self._settings.batch_delay:
            return 0.0
        until = min(work.submitted for work in self._waiting) + self._settings.batch_delay
        for work in self._waiting:
            if work.deadline is not None:
                until = min(until, work.deadline - self._costs.get(work.engine, 0.0))
        return until - time.monotonic()

    def _pop(self) -> tuple[list[_Work], list[tuple[_Work, Exception]]]:
        batch: list[_Work] = []
        refused: list[tuple[_Work, Exception]] = []
        while len(batch) < self._settings.max_batch and (first := self._waiting.first()) is not None:
            client, work = first
            if batch and work.engine is not batch[0].engine:
                break
            self._waiting.remove(client, work)
            if not work.future.set_running_or_notify_cancel():
                continue
            refusal = self._refusal(work)
            if refusal is None:
                self._waiting.serve(client, self._cost(work))
                batch.append(work)
            else:
                refused.append((work, refusal))
        return batch, refused

    def _refusal(self, work: _Work) -> Exception | None:
        """Tell why a frame whose turn has come is not worth an inference; None where it is."""
        now = time.monotonic()
        if work.deadline is not None:
            expected = self._costs.get(work.engine, 0.0)
            if now + expected >= work.deadline:
                if now < work.deadline:  # a wrong expectation, which drops all, mends itself
                    self._costs[work.engine] = expected * (1 - SMOOTHING)
                return Expired("the frame expired before its turn")
        if work.patience is not None and now > work.patience:
            most = self._settings.max_wait
            return QueueFull(
                f"it waited {now - work.submitted:.3g} s; at most {most:g} s may be waited", self._interval
            )
        return None

    def _answer(self, batch: list[_Work]) -> None:
        try:
            self._infer(batch)
        finally:
            with self._changed:
                self._busy = False
                if self._waiting or self._closed:
                    self._changed.notify()

    def _infer(self, batch: list[_Work]) -> None:
        engine = batch[0].engine
        self._busy_since = started = time.monotonic()
        try:
            frames = batch[0].frame[None] if len(batch) == 1 else np.stack([work.frame for work in batch])
            class_ids, confidence = engine.infer(frames)
        except Exception as error:
            if len(batch) > 1:  # one frame may be to blame
                for work in batch:
                    self._infer([work])
            else:
                batch[0].future.set_exception(error)
            return
        finally:
            self._busy_since = None
        now = time.monotonic()
        self._measure(batch, started, now)
        for index, work in enumerate(batch):
            waited, elapsed = round(1e9 * (started - work.submitted)), round(1e9 * (now - started))
            work.future.set_result(Inference(class_ids[index], confidence[index], waited, elapsed, len(batch)))

    def _measure(self, batch: list[_Work], started: float, now: float) -> None:
        # What a busy queue takes for a frame is more than the inference where decoding shares the cores with it.
        interval = (now - max(self._left, batch[0].submitted)) / len(batch)
        with self._changed:
            self._left = now
            self._interval = _mean(self._interval, interval)
            self._costs[batch[0].engine] = _mean(self._costs.get(batch[0].engine, 0.0), (now - started) / len(batch))


def _mean(mean: float, value: float) -> float:
    return mean + SMOOTHING * (value - mean) if mean else value
