"""Lets a candidate answer live frames beside the champion, off the critical path, and tells where the two disagree.

Needs no labels. What is counted goes to Prometheus and, as the tag `onepixel.shadow` of the candidate's version, to the
registry, where a gate may ask for it. Its time is processor time of one thread, since it yields to all others; which of
the two is faster, the gate `latency` measures by itself.
"""

import json
import logging
import random
import shutil
import statistics
import time
from collections import deque
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

from serving.errors import InputError
from serving.frames import resize_frame, resize_mask
from serving.metrics import BUCKETS
from serving.model import Model
from serving.observers import Observer, Seen
from serving.registry import RegisteredVersion, RegistryClient, RegistryUri, check_digest, check_golden
from serving.settings import EngineSettings, ShadowSettings

logger = logging.getLogger(__name__)

SHADOW_TAG = "onepixel.shadow"
"""Tag of a version: what its shadow has seen so far, JSON."""
REMEMBERED = 256
"""Frames over which the median time is taken."""


class Shadow(Observer):
    """A candidate that answers a share of the frames, too.

    Parameters
    ----------
    settings
        Which candidate, and which share.
    reader
        The registry in which it is looked up.
    cache
        The folder for its files.
    registry
        Where it is counted, for Prometheus.
    poll_seconds
        How often its alias is looked at.

    Raises
    ------
    InputError
        If `settings.model` is no `models:/` URI.
    """

    def __init__(
        self,
        settings: ShadowSettings,
        reader: RegistryClient,
        cache: Path,
        registry: CollectorRegistry,
        poll_seconds: float,
    ) -> None:
        super().__init__("shadow")
        assert settings.model is not None, "else there is no shadow"
        self._settings, self._reader, self._poll_seconds = settings, reader, poll_seconds
        self._uri = RegistryUri.parse(settings.model, "shadow.model")
        self._cache = cache / "shadow" / self._uri.name
        self._model: Model | None = None
        self._version: RegisteredVersion | None = None
        self._looked = self._reported = float("-inf")
        self._begin()
        self._frames = Counter("onepixel_shadow_frames", "Frames that a candidate saw.", ["version"], registry=registry)
        self._missed = Counter("onepixel_shadow_missed", "Frames for which it had no time.", registry=registry)
        self._pixels = Counter(
            "onepixel_shadow_pixels", "Pixels by the champion's class.", ["version", "class"], registry=registry
        )
        self._disagreement = Counter(
            "onepixel_shadow_disagreement_pixels",
            "Those of them that the candidate gives another class.",
            ["version", "class"],
            registry=registry,
        )
        self._seconds = Histogram(
            "onepixel_shadow_seconds",
            "Processor seconds of its inference.",
            ["version"],
            registry=registry,
            buckets=BUCKETS,
        )

    def wants(self, seen: Seen) -> bool:
        """Take a share of the frames that another version of the same model has answered."""
        model = self._model
        return model is not None and seen.model.digest != model.digest and random.random() < self._settings.share

    def missed(self) -> None:
        """Count it."""
        self._missed.inc()

    def look(self, seen: Seen) -> None:
        """Let the candidate answer, and compare.

        Raises
        ------
        InputError
            If the two do not know the same classes.
        """
        model = self._model
        if model is None:
            return
        names = [info.name for info in model.metadata.classes]
        if names != [info.name for info in seen.model.metadata.classes]:
            raise InputError(
                f"{model.name} version {model.version} knows other classes than {seen.model.name} version "
                f"{seen.model.version}, and is not compared"
            )
        if self._against != seen.model.version:
            self._begin(len(names), seen.model.version)
        frame = (
            seen.resized if seen.model.input_size == model.input_size else resize_frame(seen.read(), *model.input_size)
        )
        began = time.thread_time()
        answered, _ = model.infer(frame[None])
        seconds = time.thread_time() - began
        champion = seen.inference.class_ids
        candidate = resize_mask(answered[0], *champion.shape)
        pixels = np.bincount(champion.ravel(), minlength=len(names))
        differing = np.bincount(champion[candidate != champion], minlength=len(names))
        for name, of_class, different in zip(names, pixels, differing, strict=True):
            self._pixels.labels(model.version, name).inc(int(of_class))
            self._disagreement.labels(model.version, name).inc(int(different))
        self._frames.labels(model.version).inc()
        self._seconds.labels(model.version).observe(seconds)
        self._counts += np.stack([pixels, differing])
        self._seen += 1
        self._times.append(seconds)

    def idle(self) -> None:
        """Follow the alias, and report."""
        now = time.monotonic()
        if now - self._looked >= self._poll_seconds:
            self._looked = now
            self._follow()
        if now - self._reported >= self._settings.report_seconds:
            self._reported = now
            self._report()

    def _follow(self) -> None:
        found = self._reader.resolve(self._uri)
        if self._version is not None and (self._version.version, self._version.digest) == (found.version, found.digest):
            return
        self._report()
        self._model = self._version = None
        shutil.rmtree(self._cache, ignore_errors=True)
        folder = self._reader.fetch(found, self._cache / found.version)
        self._version = found  # one that is refused is not tried again; one that did not arrive is
        check_digest(folder, found)
        model = Model.load(
            folder / "model.onnx", name=found.name, version=found.version, settings=EngineSettings(threads=1)
        )
        check_golden(folder, model)
        self._begin()
        self._model = model
        logger.info("shadow: %s version %s", found.name, found.version)

    def _begin(self, classes: int = 0, champion: str = "") -> None:
        """Count from zero, against a version of the champion."""
        self._counts = np.zeros((2, classes), np.int64)
        self._seen, self._reported_frames, self._against = 0, 0, champion
        self._times: deque[float] = deque(maxlen=REMEMBERED)

    def _report(self) -> None:
        model, version = self._model, self._version
        if model is None or version is None or self._seen == self._reported_frames:
            return
        pixels, differing = self._counts
        names = [info.name for info in model.metadata.classes]
        report = {
            "frames": self._seen,
            "champion": self._against,
            "agreement": round(1 - int(differing.sum()) / int(pixels.sum()), 6),
            "disagreement": {
                name: round(int(different) / int(of_class), 6)
                for name, of_class, different in zip(names, pixels, differing, strict=True)
                if of_class
            },
            "seconds": round(statistics.median(self._times), 4),
        }
        self._reader.tag(version, {SHADOW_TAG: json.dumps(report)})
        self._reported_frames = self._seen
