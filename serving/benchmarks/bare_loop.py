"""The bare loop: decode, engine and encode in a process of its own on the server's core, without a server.

It answers the same frames at the same times as the server does in the same run, so that a ratio of the two says what
the server adds.
"""

import multiprocessing
import os
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.benchmarks.engine import BareEngine

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BareRun:
    """What the loop took."""

    latencies: Seconds
    """Seconds of each frame, from when it was due."""
    cpu_seconds: float
    """Processor time of all of them."""
    elapsed: float
    """Seconds from the first frame to the last mask."""

    @property
    def rate(self) -> float:
        """Frames per second."""
        return len(self.latencies) / self.elapsed

    @property
    def cpu_per_frame(self) -> float:
        """Processor seconds of a frame."""
        return self.cpu_seconds / len(self.latencies)


class BareLoop:
    """A process with the engine in it; a context manager that ends it.

    Parameters
    ----------
    model
        The ONNX file.
    frames
        JPEGs of the model's input size, taken in turn.
    core
        Where it runs.
    """

    def __init__(self, model: Path, frames: Sequence[bytes], core: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _start, (model, tuple(frames), core))

    def __enter__(self) -> "BareLoop":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def closed(self, seconds: float) -> BareRun:
        """Answer one frame after the other."""
        return self._pool.submit(_closed, seconds).result()

    def open(self, arrivals: Seconds) -> BareRun:
        """Answer frames that are due at `arrivals`, seconds from the start; whoever comes early waits."""
        return self._pool.submit(_open, arrivals).result()

    def checksums(self) -> list[int]:
        """Return the CRC-32 of each frame's mask."""
        return self._pool.submit(_checksums).result()


_engine: BareEngine
_frames: tuple[bytes, ...]


def _start(model: Path, frames: tuple[bytes, ...], core: int) -> None:
    global _engine, _frames
    os.sched_setaffinity(0, {core})
    _engine, _frames = BareEngine(model), frames
    for _ in range(2):
        _engine.segment(frames[0])


def _closed(seconds: float) -> BareRun:
    latencies: list[float] = []
    cpu, began = time.process_time(), time.monotonic()
    now = began
    while not latencies or now < began + seconds:
        _engine.segment(_frames[len(latencies) % len(_frames)])
        latencies.append(time.monotonic() - now)
        now += latencies[-1]
    return BareRun(np.array(latencies), time.process_time() - cpu, now - began)


def _open(arrivals: Seconds) -> BareRun:
    latencies = []
    cpu, began = time.process_time(), time.monotonic()
    for index, due in enumerate(began + arrivals):
        time.sleep(max(0.0, due - time.monotonic()))
        _engine.segment(_frames[index % len(_frames)])
        latencies.append(time.monotonic() - due)
    return BareRun(np.array(latencies), time.process_time() - cpu, time.monotonic() - began)


def _checksums() -> list[int]:
    return [zlib.crc32(_engine.segment(frame)) for frame in _frames]
