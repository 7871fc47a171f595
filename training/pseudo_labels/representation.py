"""Optimal feature setting: what describes each class, from its one annotated pixel (paper, section 4.2, eq (2))."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from training.features.regions import RegionFeatures
from training.pseudo_labels.similarity import context_similarity, histogram_intersection, imaging_features
from training.settings import RepresentationSettings

MOST_ITERATIONS = 100
"""Of E and M steps; sets stand still long before, and a cycle between ties ends here."""


@dataclass(frozen=True)
class Representation:
    """The feature vectors that describe one class."""

    class_id: int
    """The class."""
    vectors: NDArray[np.float32]
    """R, [G, D], each row a distribution: semantic (D = S, G = 1) for an object, [colour, texture] / 2 (D = 128) for
    a scene."""
    members: int
    """Superpixels of the annotated frame behind them."""
    iterations: int
    """E and M steps until the members stood still."""


def m_step(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the exact optimum M of eq (2) for one group: max sum_i Sim(Xi, M) subject to |M|_1 = 1, M >= 0.

    In each dimension the objective is concave and piecewise linear in m: its slope is the number of members above m.
    So all dimensions rise together through their order statistics, highest slope first, until their sum is 1.

    Parameters
    ----------
    members
        Distributions, float32 [n, D], n >= 1, each row with sum 1.

    Returns
    -------
    float32 [D]
        A distribution.
    """
    levels = np.sort(members.astype(np.float64), axis=0)
    levels = np.concatenate([np.zeros((1, levels.shape[1])), levels])
    totals = levels.sum(axis=1)
    upper = int(np.searchsorted(totals, 1, side="left").clip(1, len(levels) - 1))
    gap = totals[upper] - totals[upper - 1]
    fraction = (1 - totals[upper - 1]) / gap if gap > 0 else 1.0
    return (levels[upper - 1] + min(fraction, 1.0) * (levels[upper] - levels[upper - 1])).astype(np.float32)


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
    centre = vectors[annotated]
    members: NDArray[np.int64] = np.empty(0, np.int64)
    for iteration in range(1, MOST_ITERATIONS + 1):  # noqa: B007 (reported after the loop)
        scores = histogram_intersection(vectors, centre[None])[:, 0]
        nearest = np.sort(np.argsort(-scores, kind="stable")[:size])
        if np.array_equal(nearest, members):
            break
        members = nearest
        centre = m_step(vectors[members])
    return Representation(class_id, centre[None], size, iteration)


def scene_representation(
    features: RegionFeatures, annotated: int, class_id: int, settings: RepresentationSettings
) -> Representation:
    """Describe a scene class by up to G colour and texture vectors.

    The neighbours of the annotated superpixel in context, eq (3), are grouped by colour x texture similarity
    (average linkage; the group of the annotated superpixel and then the largest ones stay). The groups' means start
    the E-M of eq (2): each neighbour joins its most similar centre, each centre becomes its group's optimum, until no
    neighbour moves.
    """
    context = context_similarity(features)[annotated]
    neighbours = np.flatnonzero((context > settings.scene_neighbour_threshold) | (np.arange(len(context)) == annotated))
    colour, texture = features.colour[neighbours], features.texture[neighbours]
    similarity = histogram_intersection(colour, colour) * histogram_intersection(texture, texture)
    group = _average_linkage(similarity, settings.scene_group_threshold)
    sizes = np.bincount(group)
    sizes[group[np.flatnonzero(neighbours == annotated)[0]]] += len(neighbours)
    kept = np.argsort(-sizes, kind="stable")[: settings.scene_groups]
    grouped = np.isin(group, kept)
    vectors, group = imaging_features(features)[neighbours[grouped]], group[grouped]
    centres = np.stack([vectors[group == number].mean(axis=0) for number in kept])
    membership: NDArray[np.int64] = np.full(len(vectors), -1)
    for iteration in range(1, MOST_ITERATIONS + 1):  # noqa: B007 (reported after the loop)
        nearest = histogram_intersection(vectors, centres).argmax(axis=1)
        if np.array_equal(nearest, membership):
            break
        membership = nearest
        centres = np.stack([m_step(vectors[membership == number]) for number in np.unique(membership)])
        membership = np.unique(membership, return_inverse=True)[1]
    return Representation(class_id, centres, len(vectors), iteration)


def _average_linkage(similarity: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    if len(similarity) == 1:
        return np.zeros(1, np.int64)
    distance = 1 - similarity.astype(np.float64)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average")
    return fcluster(tree, t=1 - threshold, criterion="distance").astype(np.int64) - 1
