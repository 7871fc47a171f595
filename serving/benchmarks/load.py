"""What the load generator is told, and what it saw: every frame that was sent, with its outcome and its latency.

An open loop sends at the times of a schedule, whatever
the server does, and a latency counts from the time at which its frame was due, so that a server that stalls cannot
hide the frames that would have come meanwhile. A closed loop sends a client's next frame when the last is answered.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from serving.benchmarks.workload import SEGMENT

Seconds = npt.NDArray[np.float64]

MASK = "MASK"
"""The outcome of a frame that got its mask; others are the names of statuses and, on streams, of drops."""
LOST = "NO OUTCOME"
"""What must not be: the call ended well, and the frame had no outcome."""
STRAY = "STRAY OUTCOME"
"""What must not be either: the outcome of a frame that was not sent."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What both kinds of load share; it ends after `seconds` or `frames`, or when the generator is told to stop."""

    address: str
    clients: int = 1
    """Each has a connection of its own."""
    rate: float | None = None
    """Frames per second of all clients together, sent whether or not they are answered; None means a closed loop."""
    arrivals: Literal["poisson", "fixed"] = "poisson"
    """When the frames of an open loop are due."""
    burst: int = 1
    """Frames that are due at the same time, of one client."""
    seconds: float = float("inf")
    frames: int | None = None
    check: bool = False
    """Whether to note which version answered each frame, and the checksum of its mask."""
    until_refused: bool = False
    """Whether a client of a closed loop ends at its first frame that gets no mask."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class UnaryLoad(Load):
    """Single calls."""

    requests: tuple[bytes, ...]
    """Serialised, sent in turn."""
    method: str = SEGMENT
    """The gRPC method's or, over HTTP, the URL's path."""
    http: bool = False
    """Whether to POST the requests over HTTP/1.1; closed loops alone."""
    content_type: str = "application/octet-stream"
    """Over HTTP."""
    timeouts: tuple[float, ...] = (60.0,)
    """Seconds of the calls' deadlines, in turn."""
    cancel_after: tuple[float | None, ...] = (None,)
    """Seconds after which open-loop calls are cancelled, in turn; None means never."""


@dataclass(frozen=True, kw_only=True)
class StreamLoad(Load):
    """One stream for each client."""

    images: tuple[bytes, ...]
    """JPEGs, sent in turn."""
    overflow_policy: Literal["DROP_OLDEST", "DROP_NEWEST", "BLOCK"] = "BLOCK"
    max_in_flight: int = 4
    """Frames that the server may hold; in a closed loop also those that the client has under way."""


@dataclass(frozen=True)
class Answer:
    """What became of one frame."""

    client: int
    sequence: int
    """Of the client's frames, from 0."""
    due: float
    """When it should be sent, by the monotonic clock; in a closed loop, when it was."""
    ended: float
    """When its outcome arrived."""
    outcome: str
    detail: str = ""
    """What the server said with a status."""
    version: str = ""
    """Which version of the model answered; only where the load says `check`."""
    checksum: int = 0
    """CRC-32 of the mask; only where the load says `check`."""

    def image(self, count: int) -> int:
        """Return which of the load's `count` images or requests it was."""
        return image_index(self.client, self.sequence, count)


def image_index(client: int, sequence: int, count: int) -> int:
    """Return which of `count` images a client sends as its frame of that number: they go round."""
    return (client + sequence) % count


@dataclass(frozen=True)
class Run:
    """What the generator saw of one load."""

    sent: int
    """Frames that were sent."""
    answers: tuple[Answer, ...]
    """Their outcomes, as they arrived."""
    began: float
    ended: float
    lateness: float
    """99th percentile of how long after it was due a frame was sent: the generator's own delay, seconds."""
    outcomes: Counter[str] = field(init=False)
    """Frames by outcome."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", Counter(answer.outcome for answer in self.answers))

    @property
    def masks(self) -> int:
        """Frames that got a mask."""
        return self.outcomes[MASK]

    @property
    def rate(self) -> float:
        """Masks per second."""
        return self.masks / (self.ended - self.began)

    @property
    def unaccounted(self) -> int:
        """Frames without an outcome, and outcomes beyond a frame's first, or of no frame."""
        of_frames = [answer for answer in self.answers if answer.outcome not in (LOST, STRAY)]
        frames = len({(answer.client, answer.sequence) for answer in of_frames})
        return (self.sent - frames) + (len(of_frames) - frames) + self.outcomes[STRAY]

    def latencies(self, outcome: str = MASK) -> Seconds:
        """Return the latencies of the frames with an outcome."""
        return np.array([answer.ended - answer.due for answer in self.answers if answer.outcome == outcome])


def quantile(values: Seconds, share: float) -> float:
    """Return a quantile; infinite where there are no values."""
    return float(np.quantile(values, share)) if len(values) else float("inf")


def arrival_times(load: Load, client: int) -> Iterator[float]:
    """Yield the times at which an open loop's client should send, seconds from the start, until `load.seconds`."""
    assert load.rate is not None
    interval = load.burst * load.clients / load.rate
    rng = np.random.default_rng((load.seed, client))
    due = interval * client / load.clients if load.arrivals == "fixed" else 0.0
    while (due := due + (float(rng.exponential(interval)) if load.arrivals == "poisson" else interval)) < load.seconds:
        yield from [due] * load.burst


def all_arrival_times(load: Load) -> Seconds:
    """Return the times at which all clients of an open loop should send, in order, seconds from the start."""
    return np.sort([due for client in range(load.clients) for due in arrival_times(load, client)])
