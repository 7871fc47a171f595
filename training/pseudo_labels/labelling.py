"""The pseudo labels of a data set: the steps in order, over frames that are given by the description of their regions.

`initial_labels` takes the paper's steps; it looks at frames one at a time, so that memory holds one frame's features
and every frame's scores alone. `spread_labels` takes those of the preset `best`, which holds the embeddings of the
frames in its graph. `iterated_labels` labels a frame anew from a network's prediction.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from training.annotations.pixels import PixelFile
from training.datasets import evenly_spaced
from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.inference import best_of, class_scores, label_regions, region_shares
from training.pseudo_labels.propagation import Propagation, propagated_labels
from training.pseudo_labels.refinement import allowed_classes, refine
from training.pseudo_labels.representation import Representation, object_representation, scene_representation
from training.pseudo_labels.similarity import adjacent_context, context_similarity
from training.settings import PropagationSettings, PseudoLabelSettings, RepresentationSettings
from training.taxonomy import Taxonomy

LoadFeatures = Callable[[str], RegionFeatures]


def represent_classes(
    pixels: PixelFile, load: LoadFeatures, taxonomy: Taxonomy, settings: RepresentationSettings
) -> list[Representation]:
    """Return the representation of each class, in the order of their ids (paper, section 4.2)."""
    representations = []
    for class_id, info in enumerate(taxonomy.classes):
        pixel = pixels.pixels[info.name]
        features = load(pixel.image)
        describe = object_representation if info.kind == "object" else scene_representation
        representations.append(describe(features, int(features.labels[pixel.y, pixel.x]), class_id, settings))
    return representations


def initial_labels(
    frame_ids: Iterable[str],
    load: LoadFeatures,
    representations: Sequence[Representation],
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Label every frame's superpixels from the representations (paper, sections 4.3 and 4.4).

    Yields
    ------
    (str, uint8 [K])
        Each frame's identifier and its superpixels' class ids, 255 where none is sure enough. The first comes after
        all frames have been scored, since `paper` compares a score with its class's scores over the data set.
    """
    scored: dict[str, _Scored] = {}
    for frame_id in frame_ids:
        features = load(frame_id)
        scores = class_scores(features, representations, taxonomy)
        if settings.context:
            scores = refine(scores, context_similarity(features, settings.edge_scale))
        scored[frame_id] = _Scored(scores, _allowed(features.band, taxonomy, settings))
    if settings.thresholds == "relative":
        scored = _standardise(scored)
    kinds = {"object": settings.object_threshold, "scene": settings.scene_threshold}
    threshold = np.array([kinds[info.kind] for info in taxonomy.classes], np.float32)
    for frame_id, frame in scored.items():
        yield frame_id, label_regions(frame.scores, frame.allowed, taxonomy, threshold)


def solve_graph(
    frame_ids: Sequence[str],
    load: Callable[[str], EmbeddedRegions],
    pixels: PixelFile,
    taxonomy: Taxonomy,
    settings: PropagationSettings,
) -> Propagation:
    """Build and solve the graph of a data set.

    Parameters
    ----------
    frame_ids
        The frames to label; `settings.graph_frames` of them, evenly spaced, and the annotated ones are in the graph.
    load
        Reads a frame's regions.
    pixels
        The annotated pixels.
    taxonomy
        The classes.
    settings
        The graph's and the solver's.
    """
    chosen = list(dict.fromkeys([*evenly_spaced(frame_ids, settings.graph_frames), *pixels.frame_ids]))
    frames = {frame_id: load(frame_id) for frame_id in tqdm(chosen, desc="graph: regions", unit="frame", disable=None)}
    seeds = []
    for name in taxonomy.names:
        pixel = pixels.pixels[name]
        seeds.append((pixel.image, int(frames[pixel.image].labels[pixel.y, pixel.x])))
    return Propagation.solve(frames, seeds, settings)


def spread_labels(
    frame_id: str, regions: EmbeddedRegions, graph: Propagation, taxonomy: Taxonomy, settings: PseudoLabelSettings
) -> NDArray[np.uint8]:
    """Label a frame's superpixels from a solved graph, whether the frame is in it or new.

    Returns
    -------
    uint8 [K]
        Class ids; 255 where no class may stand.
    """
    allowed = _allowed(regions.band, taxonomy, settings)
    return propagated_labels(graph.scores_of(frame_id, regions), allowed, taxonomy, graph.settings)


def iterated_labels(
    features: RegionFeatures | EmbeddedRegions,
    prediction: NDArray[np.uint8],
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
) -> NDArray[np.uint8]:
    """Label a frame's superpixels from the network's prediction, for the next round (paper, section 5).

    Eq (6), then context-location refinement of all classes together; below the threshold a superpixel is ignored. The
    context is eq (3), or for embedded regions that of the regions that touch.

    Returns
    -------
    uint8 [K]
        Class ids, or 255.
    """
    classes = len(taxonomy.classes)
    context: NDArray[np.float32] | sparse.csr_array
    if isinstance(features, EmbeddedRegions):
        context = adjacent_context(features.adjacent, features.contour, len(features.area), settings.edge_scale)
    else:
        context = context_similarity(features, settings.edge_scale)
    scores = refine(region_shares(prediction, features.labels, classes), context)
    threshold = np.full(classes, settings.round_threshold, np.float32)
    return best_of(scores, _allowed(features.band, taxonomy, settings), np.arange(classes), threshold)


@dataclass(frozen=True)
class _Scored:
    scores: NDArray[np.float32]
    allowed: NDArray[np.bool_]


def _allowed(band: NDArray[np.uint8], taxonomy: Taxonomy, settings: PseudoLabelSettings) -> NDArray[np.bool_]:
    allowed = allowed_classes(band, taxonomy)
    return allowed if settings.location else np.ones_like(allowed)


def _standardise(scored: dict[str, _Scored]) -> dict[str, _Scored]:
    """Express each class's scores in deviations from its mean, over the superpixels where it may stand."""
    scores = np.concatenate([frame.scores for frame in scored.values()])
    allowed = np.concatenate([frame.allowed for frame in scored.values()])
    seen = np.maximum(allowed.sum(axis=0), 1)
    mean = (scores * allowed).sum(axis=0) / seen
    deviation = np.sqrt((np.square(scores - mean) * allowed).sum(axis=0) / seen)
    return {
        frame_id: _Scored(((frame.scores - mean) / np.maximum(deviation, 1e-6)).astype(np.float32), frame.allowed)
        for frame_id, frame in scored.items()
    }
