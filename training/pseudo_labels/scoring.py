"""The scores of a data set's superpixels, on which their labels are decided.

`Scoring` is the common result of both methods: the paper's similarity, refined by context, against thresholds, and the
propagation of `pseudo_labels.propagation`. Frames are looked at one at a time, so that memory holds one frame's
features and every frame's scores; the propagation holds the embeddings of the frames in its graph besides.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.annotations.pixels import PixelFile
from training.datasets import evenly_spaced
from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.inference import best_of, class_scores, label_regions
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.refinement import refine, where_allowed
from training.pseudo_labels.representation import Representation, represent_classes
from training.pseudo_labels.similarity import context_similarity
from training.settings import Settings
from training.settings.method import PseudoLabelSettings
from training.taxonomy import IGNORED, Taxonomy

LoadFeatures = Callable[[str], RegionFeatures]
LoadRegions = Callable[[str], EmbeddedRegions]

SIMILARITY = "similarity, eq (1)"
ABOVE_MEAN = "deviations above the class's mean over the data set"
REFINEMENT, MARGIN = "refinement", "the objects' margin"
POTENTIAL = "Poisson learning's score, in deviations of all scores"


@dataclass(frozen=True)
class Scored:
    """The K superpixels of one frame."""

    before: NDArray[np.float32]
    """Scores of the C classes before refinement, [K, C], finite; higher is likelier."""
    after: NDArray[np.float32]
    """Scores after it, in the same unit, [K, C]: the label is decided on them."""
    allowed: NDArray[np.bool_]
    """Classes that may stand where each superpixel is, [K, C]."""


@dataclass(frozen=True)
class Scoring:
    """The scores of the superpixels of a data set's frames."""

    taxonomy: Taxonomy
    """The C classes."""
    frames: dict[str, Scored]
    """The frames by identifier."""
    thresholds: NDArray[np.float32]
    """What a class's score must reach, [C]; minus infinity where the highest score is the label, whatever it is."""
    unit: str
    """What a score is, for the axis of a figure."""
    step: str
    """What lies between the scores before and after."""
    objects_first: bool
    """Whether eq (5) decides, objects before scenes, or the highest score of all."""

    def labels(self, frame_id: str) -> NDArray[np.uint8]:
        """Return a frame's labels, uint8 [K], class ids; 255 where no score is sure enough, or nothing is known."""
        frame = self.frames[frame_id]
        if self.objects_first:
            return label_regions(frame.after, frame.allowed, self.taxonomy, self.thresholds)
        labels = best_of(frame.after, frame.allowed, np.arange(len(self.taxonomy.classes)), self.thresholds)
        return np.where(frame.before.any(axis=1), labels, IGNORED).astype(np.uint8)

    def class_scores(self, class_id: int) -> NDArray[np.float32]:
        """Return a class's scores before and after over all superpixels where it may stand, float32 [2, n]."""
        seen = [(frame, frame.allowed[:, class_id]) for frame in self.frames.values()]
        sides = (
            [one.before[there, class_id] for one, there in seen],
            [one.after[there, class_id] for one, there in seen],
        )
        return np.stack([np.concatenate(side) for side in sides])


def score_frames(
    settings: Settings,
    features: Path,
    frame_ids: Sequence[str],
    pixels: PixelFile,
    taxonomy: Taxonomy,
    graph: Path | None = None,
) -> Scoring:
    """Score the frames by the method of the settings.

    Parameters
    ----------
    settings
        The method and its constants.
    features
        The folder that `extract_features` filled for these frames and the annotated ones.
    frame_ids
        The frames to label.
    pixels
        The annotated pixels.
    taxonomy
        The classes.
    graph
        Where to keep the solved graph, for frames to come (`propagation` only); None keeps it nowhere.
    """
    labels = settings.pseudo_labels
    if labels.method == "similarity":

        def load(frame_id: str) -> RegionFeatures:
            return RegionFeatures.load(features / f"{frame_id}.npz")

        representations = represent_classes(pixels, load, taxonomy, settings.representation)
        return score_by_similarity(frame_ids, load, representations, taxonomy, labels)

    def load_regions(frame_id: str) -> EmbeddedRegions:
        return EmbeddedRegions.load(features / f"{frame_id}.npz")

    solved = solve_graph(frame_ids, load_regions, pixels, taxonomy, settings)
    if graph is not None:
        solved.save(graph)
    return score_by_propagation(frame_ids, load_regions, solved, taxonomy, labels)


def score_by_similarity(
    frame_ids: Iterable[str],
    load: LoadFeatures,
    representations: Sequence[Representation],
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
) -> Scoring:
    """Score frames by eq (1) to (4), for eq (5) to decide (paper, sections 4.3 and 4.4)."""
    frames: dict[str, Scored] = {}
    for frame_id in tqdm(frame_ids, desc="similarity", unit="frame", delay=2, disable=None):
        features = load(frame_id)
        before = class_scores(features, representations, taxonomy)
        after = refine(before, context_similarity(features, settings.edge_scale)) if settings.context else before
        allowed = where_allowed(features.band, features.width, taxonomy, settings)
        frames[frame_id] = Scored(before, after, allowed)
    relative = settings.thresholds == "relative"
    kinds = {"object": settings.object_threshold, "scene": settings.scene_threshold}
    thresholds = np.array([kinds[info.kind] for info in taxonomy.classes], np.float32)
    unit = ABOVE_MEAN if relative else SIMILARITY
    frames = _standardised(frames) if relative else frames
    return Scoring(taxonomy, frames, thresholds, unit, REFINEMENT, objects_first=True)


def solve_graph(
    frame_ids: Sequence[str], load: LoadRegions, pixels: PixelFile, taxonomy: Taxonomy, settings: Settings
) -> Propagation:
    """Build and solve the graph of a data set.

    Parameters
    ----------
    frame_ids
        The frames to label; `propagation.graph_frames` of them, evenly spaced, and the annotated ones are in the graph.
    load
        Reads a frame's regions.
    pixels
        The annotated pixels.
    taxonomy
        The classes.
    settings
        `propagation` and `pseudo_labels` are used.
    """
    seeds: list[tuple[str, int]] = []
    for name in taxonomy.names:
        pixel = pixels.pixels[name]
        seed = (pixel.image, int(load(pixel.image).labels[pixel.y, pixel.x]))
        if seed in seeds:
            other = taxonomy.names[seeds.index(seed)]
            warnings.warn(
                f"the pixels of '{other}' and '{name}' lie in one region of frame {pixel.image}: nothing tells the two "
                f"classes apart, and '{other}' takes all; move one of them",
                stacklevel=2,
            )
        seeds.append(seed)
    chosen = list(dict.fromkeys([*evenly_spaced(frame_ids, settings.propagation.graph_frames), *pixels.frame_ids]))
    unmapped = np.zeros((0, 0), np.int32)  # the pixels' regions are not needed, and would be most of the memory
    frames = {
        frame_id: replace(load(frame_id), labels=unmapped)
        for frame_id in tqdm(chosen, desc="graph", unit="frame", delay=2, disable=None)
    }
    return Propagation.solve(frames, seeds, taxonomy, settings.propagation, settings.pseudo_labels)


def score_by_propagation(
    frame_ids: Iterable[str],
    load: LoadRegions,
    graph: Propagation,
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
    opinion: Callable[[str, EmbeddedRegions], NDArray[np.float32]] | None = None,
) -> Scoring:
    """Score frames from a solved graph, whether they are in it or new; objects bear their handicap after.

    What `opinion` says of a frame and its regions, float32 [K, C], is added to the scores after.
    """
    frames: dict[str, Scored] = {}
    for frame_id in tqdm(frame_ids, desc="propagation", unit="frame", delay=2, disable=None):
        regions = load(frame_id)
        scores = graph.scores_of(frame_id, regions)
        allowed = where_allowed(regions.band, regions.width, taxonomy, settings)
        after = scores - graph.handicap
        if opinion is not None:
            after = after + opinion(frame_id, regions)
        frames[frame_id] = Scored(scores, after, allowed)
    thresholds = np.full(len(taxonomy.classes), -np.inf, np.float32)
    return Scoring(taxonomy, frames, thresholds, POTENTIAL, MARGIN, objects_first=False)


def _standardised(frames: dict[str, Scored]) -> dict[str, Scored]:
    """Express each class's scores in deviations from its mean, over the superpixels where it may stand."""
    allowed = np.concatenate([frame.allowed for frame in frames.values()])
    before = _Standard(np.concatenate([frame.before for frame in frames.values()]), allowed)
    after = _Standard(np.concatenate([frame.after for frame in frames.values()]), allowed)
    return {
        frame_id: Scored(before(frame.before), after(frame.after), frame.allowed) for frame_id, frame in frames.items()
    }


class _Standard:
    def __init__(self, scores: NDArray[np.float32], allowed: NDArray[np.bool_]) -> None:
        seen = np.maximum(allowed.sum(axis=0), 1)
        self.mean = (scores * allowed).sum(axis=0) / seen
        self.deviation = np.sqrt((np.square(scores - self.mean) * allowed).sum(axis=0) / seen)

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((scores - self.mean) / np.maximum(self.deviation, 1e-6)).astype(np.float32)
