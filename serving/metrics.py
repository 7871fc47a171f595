"""What a server counts, for Prometheus; the names are part of its interface.

Every frame that arrives is counted once in `onepixel_frames_received_total` and, when it has its outcome, once in
`onepixel_frames_total`: so the two differ by the frames that are here.
"""

import os
from collections.abc import Callable
from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.batching import InferenceQueue
from serving.model import Model

STAGES = ("decode", "queue", "inference", "encode")
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Seconds."""


class Outcome(Enum):
    """What became of a frame; each has exactly one."""

    MASK = "mask"
    OVERFLOW = "overflow"
    """Dropped by its stream's policy."""
    EXPIRED = "expired"
    REFUSED = "refused"
    """The queue had no room for it."""
    INVALID = "invalid"
    """It could not be read, or asked for what there is not."""
    CANCELLED = "cancelled"
    """Its caller left."""
    UNAVAILABLE = "unavailable"
    """The server was draining."""
    FAILED = "failed"


class Metrics:
    """A server's metrics, in a registry of their own.

    Parameters
    ----------
    queue
        Whose depth and bound are told.
    models
        What returns the served models.
    """

    def __init__(self, queue: InferenceQueue, models: Callable[[], list[Model]]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry, pid=os.getpid)
        self.registry.register(_ModelInfo(models))
        self._received = self._counter("frames_received", "Frames that arrived.")
        self._frames = self._counter("frames", "Frames by their outcome.", "model", "version", "outcome")
        self._inferences = self._counter("inferences", "Frames that the engine has answered.", "model", "version")
        stages = Histogram(
            "onepixel_stage_seconds", "Seconds of a frame by stage.", ["stage"], registry=self.registry, buckets=BUCKETS
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._batch = Histogram(
            "onepixel_batch_size",
            "Frames of the inference that a frame was in.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32),
        )
        self.streams = Gauge("onepixel_streams", "Streams that are open.", registry=self.registry)
        for name, text, value in (
            ("queue_frames", "Frames that wait for the engine.", lambda: queue.depth),
            ("queue_bound", "Frames that may be here, by the measured time of one.", lambda: queue.bound),
            ("engine_busy_seconds", "How long the engine has been at its batch.", lambda: queue.busy_seconds),
        ):
            Gauge(f"onepixel_{name}", text, registry=self.registry).set_function(value)

    def received(self) -> None:
        """Count a frame that arrived."""
        self._received.inc()

    def ended(self, outcome: Outcome, model: Model | None = None) -> None:
        """Count a frame's outcome; `model` is what it asked for, where that is known."""
        name, version = (model.name, model.version) if model else ("", "")
        self._frames.labels(name, version, outcome.value).inc()

    def inferred(self, model: Model, batch: int) -> None:
        """Count a frame that the engine has answered, and the frames of its batch.

        Those that have no mask among their outcomes were wasted: their callers left meanwhile.
        """
        self._inferences.labels(model.name, model.version).inc()
        self._batch.observe(batch)

    def stage(self, stage: str, nanoseconds: int) -> None:
        """Observe how long a frame was in one of `STAGES`."""
        self._stages[stage].observe(nanoseconds * 1e-9)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onepixel_{name}", text, labels, registry=self.registry)


class _ModelInfo(Collector):
    """Which models are served now; a gauge of its own would keep those that are gone."""

    def __init__(self, models: Callable[[], list[Model]]) -> None:
        self._models = models

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("onepixel_model", "1 for each served model.", labels=["model", "version", "digest"])
        for model in self._models():
            family.add_metric([model.name, model.version, model.digest], 1)
        return [family]
