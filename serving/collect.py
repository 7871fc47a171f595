"""Keeps answered frames for the next retraining: those that the model is least sure of, or a fair sample.

Off unless it is asked for, since frames are private. Each kept frame has a key in [0, 1], its file's name: how unsure
the model was, or a random number. The folder holds the frames of the largest keys, at most so many and so many bytes,
so it needs no other state, and a server that starts anew goes on with it.
"""

import hashlib
import logging
import os
import random
import time
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import encode_png, recognise_format
from serving.observers import Observer, Seen
from serving.settings import CollectSettings

logger = logging.getLogger(__name__)

DIGITS = 12
"""Hexadecimal digits of the content's sha256 in a file's name, by which a frame is not kept twice."""


class Collector(Observer):
    """Keeps frames in a folder.

    Parameters
    ----------
    settings
        Which, where, and how many.
    registry
        Where it is counted, for Prometheus.

    Raises
    ------
    InputError
        If the folder cannot be made or written to.
    """

    def __init__(self, settings: CollectSettings, registry: CollectorRegistry) -> None:
        super().__init__("collect")
        assert settings.folder is not None, "else nobody collects"
        self._settings, self._folder = settings, settings.folder
        self._last = 0.0
        self._kept = _find(self._folder)
        self._frames = Counter(
            "onepixel_collected_frames", "Frames by what became of them.", ["outcome"], registry=registry
        )
        size = Gauge("onepixel_collected_bytes", "Bytes of the frames that are kept.", registry=registry)
        size.set_function(lambda: sum(size for _, size in self._kept.values()))
        logger.info("frames are kept in %s: %s, at most %d", self._folder, settings.policy, settings.limit)

    def wants(self, seen: Seen) -> bool:
        """Take at most one frame in `collect.seconds`."""
        now = time.monotonic()
        if now - self._last < self._settings.seconds:
            return False
        self._last = now
        return True

    def missed(self) -> None:
        """Count it."""
        self._frames.labels("missed").inc()

    def look(self, seen: Seen) -> None:
        """Keep a frame whose key is among the largest, and let go of the smallest."""
        key = random.random() if self._settings.policy == "uniform" else uncertainty(seen.inference.confidence)
        if len(self._kept) >= self._settings.limit and key <= min(kept for kept, _ in self._kept.values()):
            self._frames.labels("passed_over").inc()
            return
        content = seen.encoded()
        if content is None:
            content = encode_png(seen.read())
        digest = hashlib.sha256(content).hexdigest()[:DIGITS]
        if any(path.stem.endswith(digest) for path in self._kept) or len(content) > self._settings.limit_bytes:
            self._frames.labels("passed_over").inc()
            return
        path = self._folder / f"{key:.6f}-{digest}.{recognise_format(content).value.lower()}"
        with whole_file(path) as temporary:
            temporary.touch(0o600)
            temporary.write_bytes(content)
        self._kept[path] = (key, len(content))
        self._frames.labels("kept").inc()
        while len(self._kept) > self._settings.limit or self._bytes() > self._settings.limit_bytes:
            least = min(self._kept, key=lambda kept: self._kept[kept][0])
            del self._kept[least]
            least.unlink(missing_ok=True)

    def _bytes(self) -> int:
        return sum(size for _, size in self._kept.values())


def uncertainty(confidence: np.ndarray) -> float:
    """Return how unsure a model is of a frame, in [0, 1]: the mean of what its pixels' best classes lack to certainty.

    Parameters
    ----------
    confidence
        uint8 [H, W], 255 x the winning probability.
    """
    return float(1 - confidence.mean() / 255)


def _find(folder: Path) -> dict[Path, tuple[float, int]]:
    """Return the kept frames of a folder with their keys and sizes; it is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"collect.folder: {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"collect.folder: {folder} cannot be written to")
    kept = {}
    for path in folder.iterdir():
        key, _, digest = path.stem.rpartition("-")
        if len(digest) == DIGITS and key.replace(".", "", 1).isdecimal():
            kept[path] = (float(key), path.stat().st_size)
    return kept
