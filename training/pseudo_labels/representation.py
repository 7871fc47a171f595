"""Optimal feature setting: what describes each class, from its one annotated pixel (paper, section 4.2, eq (2))."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from training.annotations.pixels import PixelFile
from training.features.regions import RegionFeatures
from training.pseudo_labels.similarity import context_similarity, histogram_intersection, imaging_features
from training.settings.method import RepresentationSettings
from training.taxonomy import Taxonomy

MOST_ITERATIONS = 100
"""Of E and M steps; groups stand still long before, and a cycle between ties ends here."""


@dataclass(frozen=True)
class Representation:
    """The feature vectors that describe one class."""

    class_id: int
    """The class."""
    features: Literal["semantic", "imaging"]
    """What the vectors are of."""
    vectors: NDArray[np.float32]
    """R, [G, D], each row a distribution: semantic (D = S, G = 1) for an object, [colour, texture] / 2 (D = 128) for
    a scene."""
    members: int
    """Superpixels of the annotated frame behind them."""
    objective: tuple[float, ...]
    """Eq (2) after each E and M step, until the groups stood still: never falls, and is at most `members`."""


def represent_classes(
    pixels: PixelFile,
    load: Callable[[str], RegionFeatures],
    taxonomy: Taxonomy,
    settings: RepresentationSettings,
) -> list[Representation]:
    """Return the representation of each class, in the order of their ids (paper, section 4.2).

    Parameters
    ----------
    pixels
        The annotated pixels.
    load
        Gives an annotated frame's features.
    taxonomy
        The division into objects and scenes.
    settings
        Their constants; `features` may set the division aside.
    """
    representations = []
    for class_id, info in enumerate(taxonomy.classes):
        pixel = pixels.pixels[info.name]
        features = load(pixel.image)
        by_kind = "semantic" if info.kind == "object" else "imaging"
        chosen = by_kind if settings.features == "by_kind" else settings.features
        describe = object_representation if chosen == "semantic" else scene_representation
        representations.append(describe(features, int(features.labels[pixel.y, pixel.x]), class_id, settings))
    return representations


def m_step(members: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the exact optimum M of eq (2) for one group: max sum_i Sim(Xi, M) subject to |M|_1 = 1, M >= 0.

    In each dimension the objective is concave and piecewise linear in m: its slope is the number of members above m.
    So all dimensions rise together through their order statistics, highest slope first, until their sum is 1.

    Parameters
    ----------
    members
        Distributions, [n, D], n >= 1, each row with sum 1.

    Returns
    -------
    float64 [D]
        A distribution.
    """
    levels = np.sort(members.astype(np.float64), axis=0)
    levels = np.concatenate([np.zeros((1, levels.shape[1])), levels])
    totals = levels.sum(axis=1)
    upper = int(np.searchsorted(totals, 1, side="left").clip(1, len(levels) - 1))
    gap = totals[upper] - totals[upper - 1]
    fraction = (1 - totals[upper - 1]) / gap if gap > 0 else 1.0
    return levels[upper - 1] + min(fraction, 1.0) * (levels[upper] - levels[upper - 1])


def expectation_maximisation(
    vectors: NDArray[np.float32],
    starts: NDArray[np.float32],
    assign: Callable[[NDArray[np.float64]], NDArray[np.int64]],
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Maximise eq (2) by turns over the groups and over their centres, until the groups stand still.

    Neither step lets the objective fall where the E-step is the best one, and it is bounded: so it converges. Both
    E-steps of the paper are the best of their kind. To give each vector to its most similar centre is the best
    partition for those centres, and to take the n most similar vectors is the best set of n for that centre: the set
    changes, but not its size. (Over sets of another size the objective could not be compared.)

    Parameters
    ----------
    vectors
        Distributions X, float32 [n, D].
    starts
        Distributions M to start from, float32 [G, D].
    assign
        The E-step: from similarities by eq (1), float64 [n, G], to the group of each vector, int64 [n]; -1 for none.

    Returns
    -------
    centres, objective
        float32 [G', D], G' <= G since a group that nobody joins ends, and eq (2) after each iteration.
    """
    exact = vectors.astype(np.float64)
    centres = starts.astype(np.float64)
    groups: NDArray[np.int64] | None = None
    objective: list[float] = []
    while len(objective) < MOST_ITERATIONS:
        joined = assign(histogram_intersection(exact, centres))
        if groups is not None and np.array_equal(joined, groups):
            break
        numbers = np.unique(joined[joined >= 0])
        groups = np.where(joined >= 0, np.searchsorted(numbers, joined), -1)
        centres = np.stack([m_step(exact[groups == number]) for number in range(len(numbers))])
        objective.append(
            float(sum(np.minimum(exact[groups == number], centre).sum() for number, centre in enumerate(centres)))
        )
    return centres.astype(np.float32), tuple(objective)


def object_representation(
    features: RegionFeatures, annotated: int, class_id: int, settings: RepresentationSettings
) -> Representation:
    """Describe an object class by one semantic vector.

    From the annotated superpixel's own vector: take the most similar superpixels of the frame, eq (1); let M be their
    optimum, eq (2); again, until the set stands still.

    Parameters
    ----------
    features
        The superpixels of the annotated frame.
    annotated
        The superpixel that holds the annotated pixel.
    class_id
        The object class.
    settings
        The share of the frame's superpixels that are taken.
    """
    vectors = features.semantic
    size = max(1, round(settings.object_share * len(vectors)))

    def most_similar(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
        groups = np.full(len(vectors), -1)
        groups[np.argsort(-similarity[:, 0], kind="stable")[:size]] = 0
        return groups

    centres, objective = expectation_maximisation(vectors, vectors[annotated][None], most_similar)
    return Representation(class_id, "semantic", centres, size, objective)


def scene_representation(
    features: RegionFeatures, annotated: int, class_id: int, settings: RepresentationSettings
) -> Representation:
    """Describe a scene class by up to G colour and texture vectors.

    The neighbours of the annotated superpixel in context, eq (3), are grouped by colour x texture similarity
    (average linkage; the group of the annotated superpixel and then the largest ones stay, of equal ones those nearer
    in context). The groups' means start the E-M of eq (2): each neighbour joins its most similar centre, each centre
    becomes its group's optimum, until no neighbour moves.
    """
    context = context_similarity(features)[annotated]
    neighbours = np.flatnonzero((context > settings.scene_neighbour_threshold) | (np.arange(len(context)) == annotated))
    colour, texture = features.colour[neighbours], features.texture[neighbours]
    similarity = histogram_intersection(colour, colour) * histogram_intersection(texture, texture)
    group = _average_linkage(similarity, settings.scene_group_threshold)
    sizes = np.bincount(group)
    sizes[group[np.flatnonzero(neighbours == annotated)[0]]] += len(neighbours)
    kept = np.lexsort((-np.bincount(group, context[neighbours]), -sizes))[: settings.scene_groups]
    grouped = np.isin(group, kept)
    vectors, group = imaging_features(features)[neighbours[grouped]], group[grouped]
    centres = np.stack([vectors[group == number].mean(axis=0) for number in kept])
    centres, objective = expectation_maximisation(vectors, centres, lambda similarity: similarity.argmax(axis=1))
    return Representation(class_id, "imaging", centres, len(vectors), objective)


def _average_linkage(similarity: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    if len(similarity) == 1:
        return np.zeros(1, np.int64)
    distance = 1 - similarity.astype(np.float64)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average")
    return fcluster(tree, t=1 - threshold, criterion="distance").astype(np.int64) - 1
