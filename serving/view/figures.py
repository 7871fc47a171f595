"""The figures beside the live view's pictures: frames per second, what became of each frame, and where its time went.

Counts run from the start; rates and times are over the last seconds. Each frame that arrives is counted once more
where it ends: segmented, dropped for a reason, or failed.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from statistics import median
from typing import Any

from serving.wire import Timings

WINDOW = 5.0
"""Seconds that rates and times look back."""
NOT_SENT, LOST = "NOT_SENT", "LOST"
"""Reasons of our own beside the server's: a newer frame came before this one could leave; the connection broke."""


class Figures:
    """What is counted; any thread may count.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._arrivals: deque[float] = deque()
        self._answers: deque[tuple[float, Timings, float]] = deque()
        self._arrived = self._segmented = self._failed = 0
        self._dropped = Counter({"OVERFLOW": 0, NOT_SENT: 0, LOST: 0})
        self._last_failure: str | None = None

    def arrived(self) -> None:
        """Count a frame of the source."""
        with self._lock:
            self._arrived += 1
            self._arrivals.append(self._clock())
            self._forget()

    def segmented(self, timings: Timings, round_trip: float) -> None:
        """Count a mask.

        Parameters
        ----------
        timings
            The server's own.
        round_trip
            Seconds from handing the frame to the connection until its mask was here.
        """
        with self._lock:
            self._segmented += 1
            self._answers.append((self._clock(), timings, round_trip))
            self._forget()

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count frames that nobody segmented: the server's reason, `NOT_SENT` or `LOST`."""
        with self._lock:
            self._dropped[reason] += count

    def failed(self, message: str) -> None:
        """Count a frame that the server refused, and keep why."""
        with self._lock:
            self._failed += 1
            self._last_failure = message

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows: rates per second, counts, and median milliseconds (None before a mask came).

        `times` holds the server's stages and `other`: the wire, and waiting for a turn before decoding.
        """
        with self._lock:
            self._forget()
            seconds = max(min(WINDOW, self._clock() - self._began), 1e-3)
            stages = ("decode", "queue", "inference", "encode")
            times: dict[str, list[float]] = {
                stage: [getattr(timings, stage) for _, timings, _ in self._answers] for stage in stages
            }
            round_trips = [round_trip for _, _, round_trip in self._answers]
            times["other"] = [
                max(0.0, round_trip - sum(spent))
                for round_trip, *spent in zip(round_trips, *times.values(), strict=True)
            ]
            return {
                "rate_in": round(len(self._arrivals) / seconds, 2),
                "rate_out": round(len(self._answers) / seconds, 2),
                "arrived": self._arrived,
                "segmented": self._segmented,
                "dropped": dict(self._dropped),
                "failed": self._failed,
                "last_failure": self._last_failure,
                "times_ms": {name: _milliseconds(values) for name, values in times.items()},
                "round_trip_ms": _milliseconds(round_trips),
            }

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW
        while self._arrivals and self._arrivals[0] <= oldest:
            self._arrivals.popleft()
        while self._answers and self._answers[0][0] <= oldest:
            self._answers.popleft()


def _milliseconds(values: list[float]) -> float | None:
    return round(1000 * median(values), 2) if values else None
