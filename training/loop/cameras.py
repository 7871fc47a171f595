"""Cameras that stream frames to the server all along, and know what became of each."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.client import Client, ServerError

SECONDS_PER_FRAME = 1.0
"""Of each camera: the retraining has the same cores."""


class Cameras:
    """Clients that show the frames over and over until they are stopped, each on a stream of its own.

    Parameters
    ----------
    address
        HOST:PORT of the server.
    frames
        Image files; each camera shows its share of them.
    count
        How many cameras.
    """

    def __init__(self, address: str, frames: Sequence[Path], count: int = 2) -> None:
        self.sent = 0
        """Frames that were sent."""
        self.answered = 0
        """Frames whose mask came back."""
        self.failures: list[str] = []
        """What went wrong, frame by frame or stream by stream."""
        self._latest: dict[str, tuple[str, float]] = {}
        # By camera, the version that answered last, and when it began to, as of `time.time`.
        self._address = address
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._stream, args=(frames[number::count], f"camera-{number}"), daemon=True)
            for number in range(count)
        ]

    @property
    def failed(self) -> int:
        """Frames that were sent and whose mask did not come back; right once the cameras are stopped."""
        return self.sent - self.answered

    def start(self) -> None:
        """Begin to stream."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more frames, and wait for the outcomes of those that were sent."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def wait_answered(self, frames: int, timeout: float) -> None:
        """Wait until so many frames have been answered."""
        self._wait(lambda: self.answered >= frames, timeout, f"{frames} frames are answered")

    def wait_version(self, version: str, timeout: float) -> float:
        """Wait until a version answers all cameras; return when it began to, as of `time.time`."""

        def answers_all() -> bool:
            answering = [latest for latest, _ in self._latest.values()]
            return answering == [version] * len(self._threads)

        self._wait(answers_all, timeout, f"version {version} answers")
        return max(since for _, since in self._latest.values())

    def _wait(self, predicate: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                raise RuntimeError(f"not within {timeout:.0f} s: {what}; failures: {self.failures[-3:]}")

    def _stream(self, frames: Sequence[Path], camera_id: str) -> None:
        def paced() -> Iterator[bytes]:
            while not self._ended.is_set():
                for path in frames:
                    content = path.read_bytes()
                    with self._changed:
                        self.sent += 1
                    yield content
                    if self._ended.wait(SECONDS_PER_FRAME):
                        return

        try:
            with Client(self._address) as client:
                for outcome in client.stream(paced(), camera_id=camera_id):
                    with self._changed:
                        if outcome.segmentation is None:
                            self.failures.append(f"{camera_id}: {outcome.error or outcome.dropped}")
                        else:
                            self.answered += 1
                            version = outcome.segmentation.model_version
                            if self._latest.get(camera_id, ("", 0.0))[0] != version:
                                self._latest[camera_id] = version, time.time()
                        self._changed.notify_all()
        except ServerError as error:
            with self._changed:
                self.failures.append(f"{camera_id}: the stream ended: {error}")
                self._changed.notify_all()
