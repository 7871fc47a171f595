"""What a server may do beside answering: whoever observes is shown answered frames, and never holds one up.

An observer takes what it wants from a short queue on a thread of its own, which runs only where nobody else wants the
processor; what does not fit into the queue is not observed.
"""

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from onepixel.v1 import segmentation_pb2 as pb

from serving.background import yielding
from serving.batching import Inference
from serving.errors import InputError
from serving.frames import Pixels
from serving.model import Model

logger = logging.getLogger(__name__)

WAITING = 2
"""Frames that wait for an observer."""
QUIET_SECONDS = 600.0
"""How long a failure that goes on is not told again."""


@dataclass(frozen=True)
class Seen:
    """A frame that was answered."""

    model: Model
    """What answered it."""
    resized: Pixels
    """What the model saw, uint8 [H, W, 3]."""
    inference: Inference
    """What it answered."""
    read: Callable[[], Pixels]
    """Decodes the frame anew, uint8 [H, W, 3] of its own size."""
    message: pb.Frame | None
    """The frame as it came; None where it came through another protocol."""

    def encoded(self) -> bytes | None:
        """Return the bytes of the image file that the frame came as; None where it did not."""
        if self.message is None or self.message.WhichOneof("image") != "encoded":
            return None
        return self.message.encoded.data


class Observer(ABC):
    """Sees answered frames, on a thread of its own.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.Queue[Seen] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to observe."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """Observe no more; what is being looked at is waited for so many seconds at most."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(patience)

    def show(self, seen: Seen) -> None:
        """Offer a frame; returns at once, and never fails."""
        if self.wants(seen):
            try:
                self._queue.put_nowait(seen)
            except queue.Full:
                self.missed()

    @abstractmethod
    def wants(self, seen: Seen) -> bool:
        """Tell at once whether a frame is worth a look; called by the thread that answers it."""

    @abstractmethod
    def missed(self) -> None:
        """Count a frame for which there was no room."""

    @abstractmethod
    def look(self, seen: Seen) -> None:
        """Look at a frame, on the observer's thread."""

    def idle(self) -> None:  # noqa: B027 - an observer may have nothing to do then
        """Do what is due now and then, on the observer's thread."""

    def _run(self) -> None:
        told: dict[str, float] = {}
        with yielding(alone=True):
            while not self._ended.is_set():
                try:
                    seen = self._queue.get(timeout=0.5)
                except queue.Empty:
                    seen = None
                try:
                    if seen is not None:
                        self.look(seen)
                    self.idle()
                except Exception as error:  # as of a full disk: serving goes on
                    cause = error.__cause__ or error  # as of a full disk, which names another file each time
                    failure = (isinstance(cause, OSError) and cause.strerror) or str(cause)
                    now = time.monotonic()
                    told = {text: at for text, at in told.items() if now < at + QUIET_SECONDS}
                    if failure not in told:
                        told[failure] = now
                        expected = isinstance(error, InputError | OSError)
                        logger.warning("%s: %s", self._name, error, exc_info=not expected)
