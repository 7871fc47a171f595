"""Everything that the method knows about one frame, as arrays, from the very functions that the pipeline runs.

`inspect_frame` reads a data set and gathers it: all frames' scores by the method of the settings, and of the one frame
every feature besides, whether that method takes it or not. `page` hands the result to a person.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torchvision import models
from tqdm import tqdm

from serving.errors import InputError
from training.annotations.pixels import PixelFile, check_pixels, load_pixels
from training.datasets import evenly_spaced, open_dataset
from training.features.cam import ClassActivation, load_classifier
from training.features.edges import edge_map
from training.features.embedding import EmbeddedRegions
from training.features.extraction import BASIS, describe_frames, extract_features
from training.features.lab import rgb_to_lab
from training.features.regions import RegionFeatures, region_features
from training.features.saliency.tiles import CROPPINGS
from training.features.saliency.views import open_saliency
from training.inspection.cached import link_features, solved_graph
from training.pseudo_labels.inference import class_scores
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.representation import represent_classes
from training.pseudo_labels.scoring import (
    LoadFeatures,
    LoadRegions,
    Scored,
    Scoring,
    score_by_propagation,
    score_by_similarity,
    solve_graph,
)
from training.pseudo_labels.similarity import context_similarity, histogram_intersection
from training.settings import Settings
from training.settings.method import CamSettings
from training.taxonomy import Taxonomy


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
class FrameFeatures:
    """What a method's scores of one frame of K superpixels were made from."""

    regions: RegionFeatures
    """The superpixels and their features: those that the scores come from (`similarity`), or those that show what the
    paper would see in the same superpixels (`propagation`)."""
    embedding: NDArray[np.float32] | None
    """Their embedding, [K, D], each row of length 1 (`propagation` only)."""
    class_maps: NDArray[np.float32]
    """How like each superpixel is to what stands for each class, [K, C] in [0, 1]. `similarity`: SM, eq (1) to the
    class's representation. `propagation`: the cosine of the embeddings, clipped at 0, to the class's annotated region,
    the one region from which its scores spread."""


@dataclass(frozen=True, kw_only=True)
class Intermediates:
    """One frame of K superpixels, C classes, and a classifier of S classes, with every step's result."""

    frame_id: str
    """Identifier of the frame."""
    dataset: str
    """Name of the data set (`DatasetSettings.name`)."""
    preset: str
    """Name of the preset behind the settings."""
    method: Literal["similarity", "propagation"]
    """The method that labels (`PseudoLabelSettings.method`)."""
    frame: NDArray[np.uint8]
    """The pixels, RGB, [H, W, 3]."""
    truth: NDArray[np.uint8] | None
    """True class ids, [H, W], 255 is ignored; None where nobody drew them. Shown beside the label, used for nothing."""
    annotated: tuple[AnnotatedPixel, ...]
    """The annotated pixels that lie in this frame."""
    features: FrameFeatures
    """The superpixels, their features, and the class maps."""
    network_classes: tuple[str, ...]
    """Names of the classes of `features.regions.semantic`, S of them."""
    edges: NDArray[np.float32]
    """The edge map behind E, [H, W] in [0, 1]."""
    saliency: dict[str, NDArray[np.float32]]
    """The saliency map of each view by its name, [H, W] in [0, 1]: the whole frame, and both croppings."""
    similarities: dict[str, NDArray[np.float32]]
    """Similarities of the superpixels, [K, K] in [0, 1], symmetric, by name. `embedding`: the cosine of the embeddings,
    clipped at 0, by which the graph joins regions (`propagation` only). `semantic`, `colour`, `texture`: eq (1).
    `edges`: E. `context`: Simc of eq (3), sharpened as eq (4) takes it."""
    scoring: Scoring
    """The scores of the data set's frames, this one among them, their thresholds, and the labels."""

    @property
    def scored(self) -> Scored:
        """The frame's own scores."""
        return self.scoring.frames[self.frame_id]


def inspect_frame(settings: Settings, frame_id: str, run: Path | None, *, warn: Callable[[str], None]) -> Intermediates:
    """Gather the intermediates of a training frame, and the scores of the data set it is judged by.

    Parameters
    ----------
    settings
        As of a training; `dataset.limit` says how many frames the scores are taken over.
    frame_id
        A frame of the training split. One that the limit leaves out is scored as well: by `similarity` it joins the
        others, by `propagation` it is attached to their graph, as new frames are.
    run
        The folder of a pipeline, whose features are taken where it has them, and whose solved graph is where it is of
        the same settings and pixels; all else is made, and kept nowhere.
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
    limited = evenly_spaced(dataset.frame_ids, settings.dataset.limit)
    needed = list(dict.fromkeys([*limited, *pixels.frame_ids]))
    frame = dataset.frame(frame_id)
    with TemporaryDirectory(prefix="onepixel-") as made:
        folder = Path(made)
        if run is not None:
            link_features(settings, {*needed, frame_id}, run, folder)
        extract_features(settings, needed, folder)
        if not (folder / f"{frame_id}.npz").exists():
            describe_frames(settings, folder / BASIS)(frame).save(folder / f"{frame_id}.npz")
        scored = list(dict.fromkeys([*limited, frame_id]))
        if settings.pseudo_labels.method == "similarity":

            def load(name: str) -> RegionFeatures:
                return RegionFeatures.load(folder / f"{name}.npz")

            features, scoring = by_similarity(settings, frame_id, scored, pixels, dataset.taxonomy, load)
        else:

            def load_regions(name: str) -> EmbeddedRegions:
                return EmbeddedRegions.load(folder / f"{name}.npz")

            path = None if run is None else solved_graph(settings, pixels, run)
            if path is None:
                graph = solve_graph(limited, load_regions, pixels, dataset.taxonomy, settings)
            else:
                graph = Propagation.load(path, settings.propagation)
            features, scoring = by_propagation(
                settings, frame_id, frame, scored, pixels, dataset.taxonomy, load_regions, graph
            )
    truth = dataset.labels(frame_id) if dataset.has_labels else None
    return intermediates(features, scoring, settings, frame_id=frame_id, frame=frame, truth=truth, pixels=pixels)


def by_similarity(
    settings: Settings,
    frame_id: str,
    scored: Sequence[str],
    pixels: PixelFile,
    taxonomy: Taxonomy,
    load: LoadFeatures,
) -> tuple[FrameFeatures, Scoring]:
    """Score frames by similarity, and describe one of them."""
    representations = represent_classes(pixels, load, taxonomy, settings.representation)
    scoring = score_by_similarity(scored, load, representations, taxonomy, settings.pseudo_labels)
    regions = load(frame_id)
    class_maps = class_scores(regions, representations, taxonomy)
    return FrameFeatures(regions=regions, embedding=None, class_maps=class_maps), scoring


def by_propagation(
    settings: Settings,
    frame_id: str,
    frame: NDArray[np.uint8],
    scored: Sequence[str],
    pixels: PixelFile,
    taxonomy: Taxonomy,
    load: LoadRegions,
    graph: Propagation,
) -> tuple[FrameFeatures, Scoring]:
    """Score frames from a solved graph, and describe one of them, whose `RegionFeatures` nobody has made yet."""
    scoring = score_by_propagation(scored, load, graph, taxonomy, settings.pseudo_labels)
    activation = ClassActivation(load_classifier(settings.cam))
    maps = open_saliency(settings.saliency)
    embedding = load(frame_id).embedding
    return FrameFeatures(
        regions=region_features(frame, activation, settings.superpixels, settings.cam, maps),
        embedding=embedding,
        class_maps=cosine(embedding, annotated_embedding(pixels, load, taxonomy)),
    ), scoring


def annotated_embedding(pixels: PixelFile, load: LoadRegions, taxonomy: Taxonomy) -> NDArray[np.float32]:
    """Return the embedding of each class's annotated region, float32 [C, D]."""
    frames = {name: load(name) for name in pixels.frame_ids}
    chosen = [(frames[pixel.image], pixel) for pixel in (pixels.pixels[name] for name in taxonomy.names)]
    return np.stack([regions.embedding[regions.labels[pixel.y, pixel.x]] for regions, pixel in chosen])


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of embeddings [N, D] and [M, D], rows of length 1, clipped at 0: float32 [N, M] in [0, 1]."""
    return np.clip(first @ second.T, 0, 1)


def intermediates(
    features: FrameFeatures,
    scoring: Scoring,
    settings: Settings,
    *,
    frame_id: str,
    frame: NDArray[np.uint8],
    truth: NDArray[np.uint8] | None,
    pixels: PixelFile,
) -> Intermediates:
    """Put one frame's intermediates together, computing the maps and similarities that its features do not keep.

    Parameters are the fields of `Intermediates` of the same names, the settings of the run and its pixel file.
    """
    regions, embedding = features.regions, features.embedding
    lab = rgb_to_lab(frame)
    views = open_saliency(settings.saliency)(frame, lab, regions.labels)
    vectors = {"semantic": regions.semantic, "colour": regions.colour, "texture": regions.texture}
    similarities = {} if embedding is None else {"embedding": cosine(embedding, embedding)}
    for name in tqdm(vectors, desc="similarities", delay=2, disable=None):
        similarities[name] = histogram_intersection(vectors[name], vectors[name])
    similarities["edges"] = regions.edge_similarity
    similarities["context"] = context_similarity(regions, settings.pseudo_labels.edge_scale)
    return Intermediates(
        frame_id=frame_id,
        dataset=settings.dataset.name,
        preset=settings.pseudo_labels.preset,
        method=settings.pseudo_labels.method,
        frame=frame,
        truth=truth,
        annotated=tuple(
            AnnotatedPixel(class_id=class_id, x=pixels.pixels[name].x, y=pixels.pixels[name].y)
            for class_id, name in enumerate(scoring.taxonomy.names)
            if pixels.pixels[name].image == frame_id
        ),
        features=features,
        network_classes=network_classes(settings.cam, regions.semantic.shape[1]),
        edges=edge_map(lab),
        saliency={
            "whole frame" if tiles == (1, 1) else f"{tiles[0]} × {tiles[1]} tiles": view
            for tiles, view in zip(CROPPINGS, views, strict=False)  # without saliency there are no views
        },
        similarities=similarities,
        scoring=scoring,
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
