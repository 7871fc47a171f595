"""Everything that the method knows about one frame, as arrays, from the very functions that the pipeline runs.

`inspect_frame` reads a data set and gathers it; `label_data_set` is all of a preset that is needed, so that a preset of
another kind takes its place by answering the same arrays. `page` hands the result to a person.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab
from torchvision import models
from tqdm import tqdm

from serving.errors import InputError
from training.annotations.pixels import PixelFile, check_pixels, load_pixels
from training.datasets import evenly_spaced, open_dataset
from training.features.edges import edge_map
from training.features.extraction import extract_features
from training.features.regions import RegionFeatures
from training.features.saliency import CROPPINGS, saliency_map
from training.inspection.cached import cached_features
from training.pseudo_labels.inference import class_scores, label_regions
from training.pseudo_labels.labelling import (
    LoadFeatures,
    _edge_scale,
    _Scored,
    _standardise,
    represent_classes,
)
from training.pseudo_labels.refinement import allowed_classes, refine
from training.pseudo_labels.representation import Representation
from training.pseudo_labels.similarity import context_similarity, histogram_intersection
from training.settings import CamSettings, PseudoLabelSettings, Settings
from training.taxonomy import Taxonomy

ABOVE_MEAN = "deviations above the class's mean over the data set"
SIMILARITY = "similarity, eq (1)"


@dataclass(frozen=True, kw_only=True)
class FrameLabelling:
    """How a preset labels the K superpixels of one frame."""

    scores_before: NDArray[np.float32]
    """Scores of each class before the preset's refinement, [K, C], finite; higher is likelier."""
    scores_after: NDArray[np.float32]
    """Scores after it, in the same unit, [K, C]; `labels` is decided on them."""
    labels: NDArray[np.uint8]
    """The pseudo label, [K]: class ids, 255 where no score reaches its threshold."""


@dataclass(frozen=True, kw_only=True)
class DatasetLabelling:
    """How a preset labels one frame, and the scores over the data set by which it can be judged."""

    frame: FrameLabelling
    """The frame that is looked at."""
    thresholds: NDArray[np.float32]
    """Score that a superpixel must reach to be labelled with a class, [C], in the scores' unit."""
    unit: str
    """What a score is, for the axis of a figure."""
    scores_before: NDArray[np.float32]
    """Scores before refinement of all N superpixels of the data set, [N, C]."""
    scores_after: NDArray[np.float32]
    """Scores after it, [N, C]."""
    allowed: NDArray[np.bool_]
    """Whether a class may stand in a superpixel's band, [N, C]."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedPixel:
    """An annotated pixel that lies in the frame."""

    class_id: int
    """Its class."""
    x: int
    """Column, from 0."""
    y: int
    """Row, from 0."""


@dataclass(frozen=True, kw_only=True)
class Intermediates:
    """One frame of K superpixels, C classes, and a classifier of S classes, with every step's result."""

    frame_id: str
    """Identifier of the frame."""
    dataset: str
    """Name of the data set (`DatasetSettings.name`)."""
    preset: str
    """Name of the preset behind `labelling`."""
    frames: int
    """Frames of the data set that `labelling` saw, this one among them."""
    taxonomy: Taxonomy
    """The C classes."""
    frame: NDArray[np.uint8]
    """The pixels, RGB, [H, W, 3]."""
    truth: NDArray[np.uint8] | None
    """True class ids, [H, W], 255 is ignored; None where nobody drew them. Shown beside the label, used for nothing."""
    annotated: tuple[AnnotatedPixel, ...]
    """The annotated pixels that lie in this frame."""
    features: RegionFeatures
    """The superpixels and their features: `labels`, `semantic`, `edge_similarity` (E), `band` and `area` are shown."""
    network_classes: tuple[str, ...]
    """Names of the classes of `features.semantic`, S of them."""
    edges: NDArray[np.float32]
    """The edge map behind E, [H, W] in [0, 1]."""
    saliency: NDArray[np.float32]
    """The saliency maps, [3, H, W] in [0, 1]: the whole frame, and both croppings."""
    semantic_similarity: NDArray[np.float32]
    """Eq (1) between the semantic features of the superpixels, [K, K] in [0, 1]."""
    colour_similarity: NDArray[np.float32]
    """Eq (1) between their colours, [K, K]."""
    texture_similarity: NDArray[np.float32]
    """Eq (1) between their textures, [K, K]."""
    context: NDArray[np.float32]
    """Simc of eq (3) as the preset's eq (4) takes it, [K, K] in [0, 1]."""
    class_maps: NDArray[np.float32]
    """SM: eq (1) between each superpixel and what represents each class, [K, C] in [0, 1]."""
    allowed: NDArray[np.bool_]
    """Whether a class may stand in a superpixel's band, [K, C]."""
    labelling: DatasetLabelling
    """The scores before and after refinement, the thresholds, and the label."""


def inspect_frame(settings: Settings, frame_id: str, run: Path | None, *, warn: Callable[[str], None]) -> Intermediates:
    """Gather the intermediates of a training frame, and the scores of the data set it is judged by.

    Parameters
    ----------
    settings
        As of a training; `dataset.limit` says how many frames the scores are taken over.
    frame_id
        A frame of the training split. One that the limit leaves out is added to the others.
    run
        The folder of a pipeline, whose features are taken where it has them; the others are made, and kept nowhere.
    warn
        Takes warnings for a person, such as an annotated pixel that disagrees with the truth.

    Raises
    ------
    InputError
        If there is no such frame, the run has features of another kind, or as for a training.
    """
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    if frame_id not in dataset.frame_ids:
        raise InputError(
            f"--frame {frame_id}: no such frame in split '{dataset.split}' of {settings.dataset.name}, "
            f"which has {len(dataset)}: {dataset.frame_ids[0]} to {dataset.frame_ids[-1]}"
        )
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    for warning in check_pixels(pixels, dataset, settings.pixels):
        warn(warning)
    labelled = evenly_spaced(dataset.frame_ids, settings.dataset.limit)
    labelled += [frame_id] if frame_id not in labelled else []
    with TemporaryDirectory(prefix="onepixel-") as made:
        places = cached_features(settings, list(dict.fromkeys([*labelled, *pixels.frame_ids])), run)
        missing = [name for name, place in places.items() if place is None]
        extract_features(settings, missing, Path(made))

        def load(name: str) -> RegionFeatures:
            return RegionFeatures.load(places[name] or Path(made) / f"{name}.npz")

        representations = represent_classes(pixels, load, dataset.taxonomy, settings.representation)
        return intermediates(
            load(frame_id),
            dataset.frame(frame_id),
            representations,
            label_data_set(frame_id, labelled, load, representations, dataset.taxonomy, settings.pseudo_labels),
            settings,
            frame_id=frame_id,
            frames=len(labelled),
            taxonomy=dataset.taxonomy,
            truth=dataset.labels(frame_id) if dataset.has_labels else None,
            pixels=pixels,
        )


def label_data_set(
    frame_id: str,
    frame_ids: Sequence[str],
    load: LoadFeatures,
    representations: Sequence[Representation],
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
) -> DatasetLabelling:
    """Score all frames and label one of them as `labelling.initial_labels` does, keeping what it passes through.

    `paper` expresses the scores before refinement in deviations of their own, as if they were to be labelled.

    Parameters
    ----------
    frame_id
        The frame that is looked at, one of `frame_ids`.
    frame_ids
        The frames whose scores count.
    load
        Gives a frame's features.
    representations
        Of each class.
    taxonomy
        The classes.
    settings
        The preset and its constants.
    """
    before: dict[str, _Scored] = {}
    after: dict[str, _Scored] = {}
    for name in tqdm(frame_ids, desc="scores", unit="frame", disable=None):
        features = load(name)
        allowed = allowed_classes(features.band, taxonomy)
        scores = class_scores(features, representations, taxonomy)
        before[name] = _Scored(scores, allowed)
        after[name] = _Scored(refine(scores, context_similarity(features, _edge_scale(settings))), allowed)
    if settings.preset == "literal":
        thresholds = np.full(len(taxonomy.classes), settings.literal_threshold, np.float32)
    else:
        kinds = {"object": settings.object_threshold, "scene": settings.scene_threshold}
        thresholds = np.array([kinds[info.kind] for info in taxonomy.classes], np.float32)
        before, after = _standardise(before), _standardise(after)
    chosen = after[frame_id]
    return DatasetLabelling(
        frame=FrameLabelling(
            scores_before=before[frame_id].scores,
            scores_after=chosen.scores,
            labels=label_regions(chosen.scores, chosen.allowed, taxonomy, thresholds),
        ),
        thresholds=thresholds,
        unit=SIMILARITY if settings.preset == "literal" else ABOVE_MEAN,
        scores_before=np.concatenate([scored.scores for scored in before.values()]),
        scores_after=np.concatenate([scored.scores for scored in after.values()]),
        allowed=np.concatenate([scored.allowed for scored in after.values()]),
    )


def intermediates(
    features: RegionFeatures,
    frame: NDArray[np.uint8],
    representations: Sequence[Representation],
    labelling: DatasetLabelling,
    settings: Settings,
    *,
    frame_id: str,
    frames: int,
    taxonomy: Taxonomy,
    truth: NDArray[np.uint8] | None,
    pixels: PixelFile,
) -> Intermediates:
    """Put one frame's intermediates together, computing the maps and similarities that `features` does not keep.

    Parameters are the fields of `Intermediates` of the same names, the representation of each class, the settings of
    the run and its pixel file.
    """
    lab = rgb2lab(frame).astype(np.float32)
    similarities = [
        histogram_intersection(vectors, vectors)
        for vectors in tqdm(
            (features.semantic, features.colour, features.texture), desc="similarities", delay=2, disable=None
        )
    ]
    return Intermediates(
        frame_id=frame_id,
        dataset=settings.dataset.name,
        preset=settings.pseudo_labels.preset,
        frames=frames,
        taxonomy=taxonomy,
        frame=frame,
        truth=truth,
        annotated=tuple(
            AnnotatedPixel(class_id=class_id, x=pixels.pixels[name].x, y=pixels.pixels[name].y)
            for class_id, name in enumerate(taxonomy.names)
            if pixels.pixels[name].image == frame_id
        ),
        features=features,
        network_classes=network_classes(settings.cam, features.semantic.shape[1]),
        edges=edge_map(lab),
        saliency=np.stack([saliency_map(lab, features.labels, *tiles) for tiles in CROPPINGS]),
        semantic_similarity=similarities[0],
        colour_similarity=similarities[1],
        texture_similarity=similarities[2],
        context=context_similarity(features, _edge_scale(settings.pseudo_labels)),
        class_maps=class_scores(features, representations, taxonomy),
        allowed=allowed_classes(features.band, taxonomy),
        labelling=labelling,
    )


def network_classes(settings: CamSettings, count: int) -> tuple[str, ...]:
    """Return the names of the class activation network's `count` classes.

    They are ImageNet's for any torchvision classifier with as many classes, the crops' for `embedded`; for other
    weights nobody knows them, and they are numbered.
    """
    names: Sequence[str] = ()
    if settings.weights == "embedded":
        from training.datasets.crops import CROP_CLASSES

        names = CROP_CLASSES
    elif settings.network in models.list_models(module=models):
        weights = models.get_model_weights(settings.network)
        names = next((entry.meta["categories"] for entry in weights), ())
    return tuple(names) if len(names) == count else tuple(f"class {number}" for number in range(count))
