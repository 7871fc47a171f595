"""The bounded, fair, deadline-aware queue in front of the engine.

One setting says how long a frame may wait; the rest follows from measurement. The queue measures how often a frame
leaves it while it is busy, and so knows how long a frame that comes now would wait: behind all that are here, or, since
clients take turns, behind as many of each other client as its own has here. A frame that would wait too long, or past
its deadline, is refused on arrival, before it is decoded. At its turn a frame that was cancelled, or can no longer be
answered in time, is dropped before any inference is spent on it.

Turns are start-time fair queueing (Goyal, Vin, Cheng 1996): a client's next frame comes after what its last one cost,
its inference and its decoding, both measured; so a client with many frames, or with large ones, waits for itself.

One thread at a time asks the engine, which spreads an inference over the CPU's cores by itself, so that a second one
would only make both slower; frames decode and encode on their callers' threads meanwhile. Where nothing waits a caller
may ask by itself, which saves two changes of threads.
"""

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from serving.frames import Pixels
from serving.settings import QueueSettings

SMOOTHING = 0.1
"""Share of the newest measurement in a running mean."""
SPARE_CLIENTS = 64
"""Clients that have left and whose turns are remembered all the same, at least."""


class Engine(Protocol):
    """What turns frames of one size into masks."""

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        """Return `class_ids` and `confidence`, both uint8 [N, H, W], of `frames`, uint8 [N, H, W, 3] RGB."""
        ...


class QueueFull(Exception):
    """There is no room, or the frame would wait too long.

    Parameters
    ----------
    message
        Why.
    retry_after
        Seconds after which a frame may be taken; None where nobody can tell.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(Exception):
    """The deadline passed, or would have, before the frame could be answered."""


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
    """Nanoseconds in the engine, for the batch that held the frame."""
    batch: int
    """Frames of that batch."""


@dataclass(order=True, frozen=True)
class _Work:
    turn: float
    number: int
    engine: Engine = field(compare=False)
    frame: Pixels = field(compare=False)
    deadline: float | None = field(compare=False)
    submitted_ns: int = field(compare=False)
    future: Future[Inference] = field(compare=False)


class Place:
    """A frame's place, from its arrival until `leave`; a context manager that leaves."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def leave(self) -> None:
        """Give the place back; only the first time counts."""
        self._leave()
        self._leave = _nothing

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
    """

    def __init__(self, *, capacity: int, settings: QueueSettings | None = None) -> None:
        self._capacity = capacity
        self._settings = settings or QueueSettings()
        self._changed = threading.Condition()
        self._waiting: list[_Work] = []
        self._numbers = itertools.count()
        self._turn = 0.0  # of the frame that the engine has
        self._next_turns: dict[str, float] = {}  # by client
        self._held: Counter[str] = Counter()  # frames by client, from arrival to `leave`
        self._counted = 0  # those of them that count to the capacity
        self._closed = False
        self._busy = False  # a thread asks the engine
        self._interval = 0.0  # seconds between the frames that leave a busy queue; 0 while unknown
        self._costs: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()  # seconds of one frame in the engine
        self._left = 0.0  # when the last frame left
        self._busy_since: float | None = None
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

    def enter(self, client: str = "", *, deadline: float | None = None, refuse: bool = True) -> Place:
        """Take a place for a frame that has arrived.

        Parameters
        ----------
        client
            Whose it is; clients take turns.
        deadline
            By `time.monotonic`; None means none.
        refuse
            Whether to refuse what would wait too long. A stream holds few frames by itself, and has its own policy.

        Raises
        ------
        QueueFull
            If no place is free, or the frame would wait longer than `max_wait` or its deadline allows.
        Closed
            After `close`.
        """
        with self._changed:
            if self._closed:
                raise Closed("the server is draining")
            if refuse:
                self._check_room(client, deadline)
                self._counted += 1
            self._held[client] += 1
        return Place(lambda: self._leave(client, refuse))

    def submit(
        self,
        engine: Engine,
        frame: Pixels,
        *,
        client: str = "",
        deadline: float | None = None,
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
        cost
            Seconds that it has cost so far; they count to its client's share, as its inference will.
        at_once
            Whether this call may ask the engine itself where nothing waits, and return when it has answered.

        Returns
        -------
        The future inference. Its exception is `Expired` if the deadline came first, `Closed` after `close`, else the
        engine's own; after `cancel()` the frame is dropped at its turn.
        """
        future: Future[Inference] = Future()
        with self._changed:
            if self._closed:
                future.set_exception(Closed("the server is draining"))
                return future
            turn = max(self._turn, self._next_turns.get(client, 0.0))
            self._next_turns[client] = turn + cost + self._costs.get(engine, self._interval)
            if len(self._next_turns) > 2 * len(self._held) + SPARE_CLIENTS:  # most have left
                self._next_turns = {name: own for name, own in self._next_turns.items() if own > self._turn}
            work = _Work(turn, next(self._numbers), engine, frame, deadline, time.monotonic_ns(), future)
            if not at_once or self._busy or self._waiting or self._settings.max_batch > 1:
                heapq.heappush(self._waiting, work)
                if not self._busy:
                    self._changed.notify()
                return future
            worth_it = self._is_worth_it(work)
            if worth_it:
                self._busy, self._turn = True, turn
        if worth_it:
            self._answer([work])
        else:
            _expire(work)
        return future

    def close(self) -> None:
        """Answer what is queued, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _check_room(self, client: str, deadline: float | None) -> None:
        if self._counted >= self._capacity:
            raise QueueFull(f"all {self._capacity} places are taken; retry later", self._interval or None)
        # With turns, a frame waits for at most one more of each client than its own has here; and never for more
        # than there are.
        own, clients = self._held[client], len(self._held) + (client not in self._held)
        ahead = min(self._held.total(), (own + 1) * clients - 1)
        wait = ahead * self._interval
        if not ahead:
            return  # whatever was measured: else a wrong measurement would never be mended
        if wait > self._settings.max_wait:
            raise QueueFull(
                f"it would wait {wait:.3g} s, behind {ahead}; at most {self._settings.max_wait:g} s may be waited",
                wait - self._settings.max_wait,
            )
        if deadline is not None and time.monotonic() + wait + self._interval > deadline:
            raise QueueFull(f"it would wait {wait:.3g} s, behind {ahead}; the deadline is sooner", wait)

    def _leave(self, client: str, counted: bool) -> None:
        with self._changed:
            self._counted -= counted
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]

    def _serve(self) -> None:
        while True:
            batch, expired = self._take()
            for work in expired:
                _expire(work)  # tells those who wait for it, so not under the lock
            if batch:
                self._answer(batch)
            elif not expired:
                return
            del batch, expired  # the next turn may be long in coming

    def _take(self) -> tuple[list[_Work], list[_Work]]:
        """Wait for the next frame that is worth an inference and for those that go with it, or for some that are not.

        Returns
        -------
        The batch, and those that have expired; none of either after `close`.
        """
        batch: list[_Work] = []
        expired: list[_Work] = []
        with self._changed:
            while True:
                while self._waiting and not self._busy and len(batch) < self._settings.max_batch:
                    if batch and self._waiting[0].engine is not batch[0].engine:
                        break
                    work = heapq.heappop(self._waiting)
                    if not work.future.set_running_or_notify_cancel():
                        continue
                    if self._is_worth_it(work):
                        batch.append(work)
                        self._turn = work.turn
                    else:
                        expired.append(work)
                patience = None
                if batch:
                    patience = batch[0].submitted_ns * 1e-9 + self._settings.batch_delay - time.monotonic()
                    if len(batch) == self._settings.max_batch or self._waiting or patience <= 0 or self._closed:
                        self._busy = True
                        return batch, expired
                elif expired or (self._closed and not self._waiting and not self._busy):
                    return batch, expired
                self._changed.wait(patience)

    def _is_worth_it(self, work: _Work) -> bool:
        expected = self._costs.get(work.engine, 0.0)
        if work.deadline is None or time.monotonic() + expected < work.deadline:
            return True
        self._costs[work.engine] = expected * (1 - SMOOTHING)  # a wrong expectation, which drops all, mends itself
        return False

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
        self._busy_since = time.monotonic()
        started = time.monotonic_ns()
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
        elapsed = time.monotonic_ns() - started
        self._measure(batch, elapsed * 1e-9)
        for index, work in enumerate(batch):
            waited = started - work.submitted_ns
            work.future.set_result(Inference(class_ids[index], confidence[index], waited, elapsed, len(batch)))

    def _measure(self, batch: list[_Work], elapsed: float) -> None:
        now = time.monotonic()
        # What a busy queue takes for a frame is more than the inference where decoding shares the cores with it.
        interval = (now - max(self._left, batch[0].submitted_ns * 1e-9)) / len(batch)
        with self._changed:
            self._left = now
            self._interval = _mean(self._interval, interval)
            self._costs[batch[0].engine] = _mean(self._costs.get(batch[0].engine, 0.0), elapsed / len(batch))


def _expire(work: _Work) -> None:
    work.future.set_exception(Expired("the frame expired before its turn"))


def _mean(mean: float, value: float) -> float:
    return mean + SMOOTHING * (value - mean) if mean else value


def _nothing() -> None:
    pass
