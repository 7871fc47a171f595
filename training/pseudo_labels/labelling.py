"""The pseudo labels of a data set: the paper's steps in order, over frames that are given by their RegionFeatures.

Frames are looked at one at a time, so that memory holds one frame's features and every frame's scores alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.annotations.pixels import PixelFile
from training.features.regions import RegionFeatures
from training.pseudo_labels.inference import best_of, class_scores, label_regions, region_shares
from training.pseudo_labels.refinement import allowed_classes, refine
from training.pseudo_labels.representation import Representation, object_representation, scene_representation
from training.pseudo_labels.similarity import context_similarity
from training.settings import PseudoLabelSettings, RepresentationSettings
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
        context = context_similarity(features, _edge_scale(settings))
        scores = refine(class_scores(features, representations, taxonomy), context)
        scored[frame_id] = _Scored(scores, allowed_classes(features.band, taxonomy))
    if settings.preset == "literal":
        threshold = np.full(len(taxonomy.classes), settings.literal_threshold, np.float32)
    else:
        kinds = {"object": settings.object_threshold, "scene": settings.scene_threshold}
        threshold = np.array([kinds[info.kind] for info in taxonomy.classes], np.float32)
        scored = _standardise(scored)
    for frame_id, frame in scored.items():
        yield frame_id, label_regions(frame.scores, frame.allowed, taxonomy, threshold)


def iterated_labels(
    features: RegionFeatures, prediction: NDArray[np.uint8], taxonomy: Taxonomy, settings: PseudoLabelSettings
) -> NDArray[np.uint8]:
    """Label a frame's superpixels from the network's prediction, for the next round (paper, section 5).

    Eq (6), then context-location refinement of all classes together; below the threshold a superpixel is ignored.

    Returns
    -------
    uint8 [K]
        Class ids, or 255.
    """
    classes = len(taxonomy.classes)
    shares = region_shares(prediction, features.labels, classes)
    scores = refine(shares, context_similarity(features, _edge_scale(settings)))
    threshold = np.full(classes, settings.round_threshold, np.float32)
    return best_of(scores, allowed_classes(features.band, taxonomy), np.arange(classes), threshold)


@dataclass(frozen=True)
class _Scored:
    scores: NDArray[np.float32]
    allowed: NDArray[np.bool_]


def _edge_scale(settings: PseudoLabelSettings) -> float | None:
    return None if settings.preset == "literal" else settings.edge_scale


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
