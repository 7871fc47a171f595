"""What pseudo labels cost: seconds per frame and step, memory, and the ratio to what cannot be saved.

The floor of a frame is its decoding, the network's forward passes and the segmentations used: whatever the method
does besides is overhead. All is measured in one run, on one thread, inside the pipeline's own functions, which are
replaced by ones that keep the time; nothing is measured on a copy of them.
"""

import importlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from serving.frames import decode_image, encode_png
from training.annotations.pixels import load_pixels
from training.datasets import evenly_spaced, open_dataset
from training.features.extraction import (
    BASIS,
    describe_frames,
    extract_features,
    load_networks,
    start_worker,
    use_one_thread,
    write_features,
)
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.scoring import score_frames
from training.settings import Settings

STARTING = 300.0
"""Seconds that workers may take to start."""
FLOOR = ("decode", "network", "segmentation", "saliency: segmentation")
"""The steps that cannot be saved."""

STEPS: dict[str, tuple[str, ...]] = {
    "segmentation": ("training.features.regions.superpixels", "training.features.embedding.superpixels"),
    "network": ("training.features.cam.ClassActivation.maps", "training.features.embedding.LayerPasses.maps"),
    "class maps of superpixels": ("training.features.regions.semantic",),
    "layers of superpixels": ("training.features.embedding.LayerPasses.describe",),
    "embedding": ("training.features.embedding.EmbeddingBasis.embed",),
    "CIELAB": ("training.features.regions.rgb_to_lab", "training.features.embedding.rgb_to_lab"),
    "colour": ("training.features.regions.colour",),
    "texture": ("training.features.regions.texture",),
    "edges": ("training.features.regions.edge_map", "training.features.embedding.edge_map"),
    "edges between superpixels": (
        "training.features.regions.edge_similarity",
        "training.features.embedding.adjacency",
    ),
    "saliency": ("training.features.regions.saliency",),
    "saliency: segmentation": (
        "training.features.saliency.drfi.fine_segmentation",
        "training.features.saliency.drfi.coarser",
    ),
    "eq (1)": ("training.pseudo_labels.scoring.class_scores",),
    "eq (3)": ("training.pseudo_labels.scoring.context_similarity",),
    "eq (4)": ("training.pseudo_labels.scoring.refine",),
    "graph": ("training.pseudo_labels.propagation.region_graph",),
    "Poisson learning": ("training.pseudo_labels.propagation.poisson_learning",),
    "eq (5)": ("training.pseudo_labels.scoring.Scoring.labels",),
}
"""Step to the functions that take its time, where the pipeline looks them up; a function's time is its own, less that
of the steps inside it."""


class Clock:
    """The time of each step, in the order in which they end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of the block, less that of steps inside it, to a step."""
        self._inside.append(0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            whole = time.perf_counter() - began
            self.seconds[name] += whole - self._inside.pop()
            self._inside[-1] += whole

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Keep the time of the pipeline's steps while the block runs."""
        with ExitStack() as stack:
            for name, places in STEPS.items():
                for place in places:
                    stack.enter_context(patch(place, self._timed(name, _resolve(place))))
            yield

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.step(name):
                return function(*arguments, **options)

        return timed


@dataclass(frozen=True)
class Cost:
    """What one frame costs on one thread."""

    seconds_per_frame: dict[str, float]
    """Median over the frames of each step, and of `total`."""
    ratio_to_floor: float
    """Median over the frames of the total over the steps of `FLOOR`."""
    peak_memory_bytes: int
    """Of the whole process."""


@dataclass(frozen=True)
class GraphCost:
    """What the graph of all frames costs at one size, on one thread: building, solving, and attaching the others."""

    frames: int
    """That are labelled."""
    graph_frames: int
    """That are in the graph, the annotated ones among them; the others are attached."""
    regions: int
    """In the graph."""
    seconds: float
    memory_bytes: int
    """By which the process grew at its peak."""


def run_benchmark(settings: Settings, frames: int) -> dict[str, Any]:
    """Measure what pseudo labels cost.

    Parameters
    ----------
    settings
        Data set, method and constants.
    frames
        Training frames, evenly spaced, that are measured.

    Returns
    -------
    dict
        `ratio_to_floor` (without saliency), `ratio_with_saliency` (None where the method takes none),
        `seconds_per_frame` by step, `peak_memory_bytes`, `two_workers_speedup`, `frames`, `frame_size`, and for
        propagation `graph`, a list of `GraphCost`: a quarter, half and all of the frames, all of them in the graph, and
        all of the frames with a quarter in the graph.
    """
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    chosen = evenly_spaced(dataset.frame_ids, frames)
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    propagates = settings.pseudo_labels.method == "propagation"
    with TemporaryDirectory(prefix="onepixel-") as made:
        folder = Path(made)
        if propagates:
            extract_features(settings, list(dict.fromkeys([*chosen, *pixels.frame_ids])), folder / "features")
        without = settings.model_copy(update={"saliency": settings.saliency.model_copy(update={"method": "none"})})
        plain = _alone(_measure, without, chosen, folder / "plain", folder / "features" / BASIS)
        report = asdict(plain) | {
            "ratio_with_saliency": None,
            "two_workers_speedup": _speedup(without, chosen, folder),
            "frames": len(chosen),
            "frame_size": list(dataset.frame(chosen[0]).shape[:2]),
        }
        if propagates:
            sizes = [max(1, len(chosen) * part // 4) for part in (1, 2, 4)]
            report["graph"] = [
                asdict(_alone(_measure_graph, settings, evenly_spaced(chosen, size), in_graph, folder / "features"))
                for size, in_graph in [*zip(sizes, sizes, strict=True), (sizes[-1], sizes[0])]
            ]
        elif settings.saliency.method != "none":
            salient = _alone(_measure, settings, chosen, folder / "salient", folder / "features" / BASIS)
            report["ratio_with_saliency"] = salient.ratio_to_floor
            report["seconds_per_frame"] |= {
                step: seconds for step, seconds in salient.seconds_per_frame.items() if step.startswith("saliency")
            }
    return report


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run a measurement in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _measure(settings: Settings, frame_ids: Sequence[str], folder: Path, basis: Path) -> Cost:
    use_one_thread()
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    describe = describe_frames(settings, basis)
    describe(dataset.frame(frame_ids[0]))  # the first pass allocates
    for frame_id in pixels.frame_ids:
        describe(dataset.frame(frame_id)).save(folder / f"{frame_id}.npz")
    per_frame = []
    for frame_id in tqdm(frame_ids, desc="cost of features", unit="frame", disable=None):
        clock = Clock()
        content = dataset.encoded(frame_id) or encode_png(dataset.frame(frame_id))  # a generated frame has no file
        with clock.watch(), clock.step("other"):
            with clock.step("decode"):
                frame = np.asarray(decode_image(content))
            described = describe(frame)
            with clock.step("files"):
                described.save(folder / f"{frame_id}.npz")
        per_frame.append(clock.seconds)
    labelling = Clock()
    with labelling.watch(), labelling.step("other"):
        scoring = score_frames(settings, folder, frame_ids, pixels, dataset.taxonomy)
        for frame_id in frame_ids:
            scoring.labels(frame_id)
    for seconds in per_frame:
        for name, whole in labelling.seconds.items():
            seconds[name] += whole / len(frame_ids)
        seconds["total"] = sum(seconds.values())
    steps = {name: statistics.median(seconds[name] for seconds in per_frame) for name in per_frame[0]}
    ratios = [seconds["total"] / sum(seconds[name] for name in FLOOR) for seconds in per_frame]
    return Cost(steps, statistics.median(ratios), _peak_memory())


def _measure_graph(settings: Settings, frame_ids: Sequence[str], in_graph: int, folder: Path) -> GraphCost:
    use_one_thread()
    propagation = settings.propagation.model_copy(update={"graph_frames": in_graph})
    settings = settings.model_copy(update={"propagation": propagation})
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    before, began = _peak_memory(), time.perf_counter()
    with TemporaryDirectory(prefix="onepixel-") as made:
        score_frames(settings, folder, frame_ids, pixels, dataset.taxonomy, Path(made) / "graph.npz")
        seconds, memory = time.perf_counter() - began, _peak_memory() - before
        graph = Propagation.load(Path(made) / "graph.npz", propagation)
    return GraphCost(len(frame_ids), len(graph.frame_ids), len(graph.embedding), seconds, memory)


def _speedup(settings: Settings, frame_ids: Sequence[str], folder: Path) -> float:
    """Return the frames per second of two workers over those of one, from when all of them are ready."""
    context = multiprocessing.get_context("spawn")
    rates = []
    for workers in (1, 2):
        out = folder / f"workers-{workers}"
        out.mkdir()
        if (folder / "features" / BASIS).exists():
            (out / BASIS).hardlink_to(folder / "features" / BASIS)
        ready = context.Barrier(workers + 1)
        with ProcessPoolExecutor(workers, context, _start_and_wait, (settings, out, ready)) as pool:
            written = [pool.submit(write_features, frame_id) for frame_id in frame_ids]
            ready.wait(STARTING)
            began = time.perf_counter()
            for future in written:
                future.result()
            rates.append(len(frame_ids) / (time.perf_counter() - began))
    return rates[1] / rates[0]


def _start_and_wait(settings: Settings, folder: Path, ready: Barrier) -> None:
    start_worker(settings, folder)
    load_networks()
    ready.wait(STARTING)


def _peak_memory() -> int:
    """Return the most memory that this process has held, bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _resolve(place: str) -> Callable[..., Any]:
    """Return the function of a dotted place: module.function, or module.Class.method."""
    module, _, name = place.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        module, _, class_name = module.rpartition(".")
        return getattr(getattr(importlib.import_module(module), class_name), name)
