"""What the suites share: the cores, the generator, the models with their frames, and what was found."""

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.benchmarks.bare_loop import BareLoop
from serving.benchmarks.engine import BareEngine
from serving.benchmarks.generator import Generator
from serving.benchmarks.load import Load, Run
from serving.benchmarks.process import Cores, ServerProcess, stopped_after
from serving.benchmarks.tiny_model import tiny_model
from serving.benchmarks.workload import segment_request, street_like_jpegs

TINY_SIZE = (512, 1024)
"""Height and width of the model that costs almost nothing, pixels: its mask has 524,288 bytes."""
SETTLING = 5.0
"""Seconds that a server may take for what its callers have left behind."""
IMAGES = 8
"""Different frames, which are sent in turn."""


@dataclass
class Findings:
    """What was measured."""

    figures: dict[str, Any] = field(default_factory=dict)
    """By the names that `--json` prints."""
    details: dict[str, Any] = field(default_factory=dict)
    """What they come from, by suite."""

    def add(self, other: "Findings") -> None:
        """Take what another suite found; of a figure that both have, the larger, and the peers of both."""
        for name, value in other.figures.items():
            known = self.figures.get(name, value)
            self.figures[name] = known | value if name == "peers" else max(known, value)
        self.details |= other.details


@dataclass(frozen=True)
class Case:
    """A model with frames of its input size."""

    model: Path
    """The ONNX file."""

    @cached_property
    def images(self) -> tuple[bytes, ...]:
        """JPEGs."""
        return street_like_jpegs(*BareEngine(self.model).input_size, IMAGES)

    @cached_property
    def requests(self) -> tuple[bytes, ...]:
        """Their requests, serialised."""
        return tuple(map(segment_request, self.images))


class Bench:
    """Where the suites run.

    Parameters
    ----------
    model
        The ONNX file that the figures of a network are measured on.
    folder
        For models and logs.
    generator
        What sends.
    cores
        Where everything runs.
    scale
        By which durations and counts are multiplied; the bars are meant for 1.
    """

    def __init__(self, model: Path, folder: Path, generator: Generator, cores: Cores, scale: float = 1.0) -> None:
        self.network = Case(model)
        self.folder = folder
        self.generator = generator
        self.cores = cores
        self.scale = scale
        self.unaccounted = 0
        self.lateness = 0.0
        self._numbers = itertools.count()

    @cached_property
    def tiny(self) -> Case:
        """The model that costs almost nothing."""
        path = self.folder / "tiny.onnx"
        path.write_bytes(tiny_model(*TINY_SIZE))
        return Case(path)

    def seconds(self, seconds: float) -> float:
        """Scale a duration."""
        return seconds * self.scale

    def count(self, count: int, least: int = 1) -> int:
        """Scale a count."""
        return max(least, round(count * self.scale))

    @contextmanager
    def server(self, model: Path, **settings: object) -> Iterator[ServerProcess]:
        """Run a server on its core; a setting's dots are written as two underscores."""
        named = {key.replace("__", "."): value for key, value in settings.items()}
        log = self.folder / f"server-{next(self._numbers)}.log"
        server = ServerProcess(model, self.cores.server, log, named)
        with stopped_after(server):
            yield server
            if server.is_running():
                self.unaccounted += _frames_without_outcome(server)

    def bare(self, case: Case) -> BareLoop:
        """Run the bare loop on the server's core."""
        return BareLoop(case.model, case.images, self.cores.server)

    def send(self, load: Load) -> Run:
        """Send a load to its end, and account for its frames."""
        run = self.generator.send(load)
        self.account(run)
        return run

    def account(self, run: Run) -> None:
        """Add a run's frames to the account."""
        self.unaccounted += run.unaccounted
        self.lateness = max(self.lateness, run.lateness)


def _frames_without_outcome(server: ServerProcess) -> int:
    """Return how many frames the server has received and not ended, by its own account, once it is idle."""
    deadline = time.monotonic() + SETTLING
    while True:
        left = server.metric("onepixel_frames_received_total") - server.metric("onepixel_frames_total")
        if not left or time.monotonic() > deadline:
            return abs(round(left))
        time.sleep(0.1)


def growth(memory: Sequence[int]) -> float:
    """Return the memory of the last fifth over that of the second: by medians, and what comes before warms up."""
    fifth = len(memory) // 5
    return statistics.median(memory[-fifth:]) / statistics.median(memory[fifth : 2 * fifth])


def median_of(rows: list[dict[str, float]], over: str, under: str) -> float:
    """Return the median over the rounds of one figure over another of the same round."""
    return statistics.median(row[over] / row[under] for row in rows)
