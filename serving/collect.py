"""Keeps answered frames for the next retraining: those that the model is least sure of, or a fair sample.

Off unless it is asked for, since frames are private. Each kept frame has a key in [0, 1], its file's name: how unsure
the model was, or a random number. The folder holds the frames of the largest keys, at most so many and so many bytes,
so it needs no other state, and a server that starts anew goes on with it.
"""

import hashlib
import logging
import os
import random
import re
import time
from contextlib import suppress
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
_KEPT = re.compile(rf"(?P<key>[01]\.\d{{6}})-[0-9a-f]{{{DIGITS}}}\.\w+")
_PARTIAL = re.compile(rf"\.[01]\.\d{{6}}-[0-9a-f]{{{DIGITS}}}\.part\.\w+")


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
        If the folder cannot be made, read or written to.
    """

    def __init__(self, settings: CollectSettings, registry: CollectorRegistry) -> None:
        super().__init__("collect")
        assert settings.folder is not None, "else nobody collects"
        self._settings, self._folder = settings, settings.folder
        self._last = 0.0
        self._kept: dict[Path, tuple[float, int]] = {}
        self._stamp = 0
        self._frames = Counter(
            "onepixel_collected_frames", "Frames by what became of them.", ["outcome"], registry=registry
        )
        self._size = Gauge("onepixel_collected_bytes", "Bytes of the frames that are kept.", registry=registry)
        self._find()
        if not os.access(self._folder, os.W_OK):
            raise InputError(f"collect.folder: {self._folder} cannot be written to")
        for path in self._folder.iterdir():
            if _PARTIAL.fullmatch(path.name):  # of a server that was killed
                path.unlink(missing_ok=True)
        self._let_go(self._smallest(0, 0))
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
        self._find()
        key = random.random() if self._settings.policy == "uniform" else uncertainty(seen.inference.confidence)
        kept = self._has_room(key, 0) and self._keep(key, seen)
        self._frames.labels("kept" if kept else "passed_over").inc()

    def _keep(self, key: float, seen: Seen) -> bool:
        """Write a frame; return whether it is one to keep."""
        content = seen.encoded()
        if content is None:
            content = encode_png(seen.read())
        digest = hashlib.sha256(content).hexdigest()[:DIGITS]
        if any(path.stem.endswith(digest) for path in self._kept) or not self._has_room(key, len(content)):
            return False
        self._let_go(self._smallest(1, len(content)))
        path = self._folder / f"{key:.6f}-{digest}.{recognise_format(content).value.lower()}"
        with whole_file(path) as temporary:
            temporary.touch(0o600)
            temporary.write_bytes(content)
        self._kept[path] = (key, len(content))
        self._note()
        return True

    def _has_room(self, key: float, size: int) -> bool:
        """Tell whether a frame of so many bytes fits, when some of smaller keys go."""
        return size <= self._settings.limit_bytes and all(self._kept[path][0] < key for path in self._smallest(1, size))

    def _smallest(self, frames: int, size: int) -> list[Path]:
        """Return what has to go so that so many frames more, of so many bytes, fit."""
        frames, size = frames + len(self._kept), size + self._bytes()
        going = []
        for path, (_, of_path) in sorted(self._kept.items(), key=lambda item: item[1][0]):
            if frames <= self._settings.limit and size <= self._settings.limit_bytes:
                break
            going.append(path)
            frames, size = frames - 1, size - of_path
        return going

    def _let_go(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            del self._kept[path]
        self._note()

    def _bytes(self) -> int:
        return sum(size for _, size in self._kept.values())

    def _note(self) -> None:
        """Remember that the folder is as we have left it."""
        self._stamp = self._folder.stat().st_mtime_ns
        self._size.set(self._bytes())

    def _find(self) -> None:
        """Read the folder, where somebody else has changed it: who retrains may take the frames; make a missing one."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._folder.stat().st_mtime_ns == self._stamp:
                return
            self._kept = {}
            for entry in os.scandir(self._folder):
                name = _KEPT.fullmatch(entry.name)
                with suppress(FileNotFoundError):  # it went away just now
                    if name is not None:
                        self._kept[Path(entry.path)] = (float(name["key"]), entry.stat().st_size)
        except OSError as error:
            raise InputError(f"collect.folder: {self._folder} cannot be made or read: {error.strerror}") from error
        self._note()


def uncertainty(confidence: np.ndarray) -> float:
    """Return how unsure a model is of a frame, in [0, 1]: the mean of what its pixels' best classes lack to certainty.

    Parameters
    ----------
    confidence
        uint8 [H, W], 255 x the winning probability.
    """
    return float(1 - confidence.mean() / 255)
