"""From representations to labels: scores by eq (1) for every class, thresholds, and eq (5)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.features.regions import RegionFeatures
from training.pseudo_labels.representation import Representation
from training.pseudo_labels.similarity import histogram_intersection, imaging_features
from training.taxonomy import IGNORED, Taxonomy


def class_scores(
    features: RegionFeatures, representations: Sequence[Representation], taxonomy: Taxonomy
) -> NDArray[np.float32]:
    """Return SM, the similarity of each superpixel to each class by eq (1) (paper, section 4.3).

    A class scores by the most similar vector of its pool; an object has one, of semantics.

    Returns
    -------
    float32 [K, C]
        In [0, 1].
    """
    scores = np.zeros((len(features.area), len(taxonomy.classes)), np.float32)
    imaging = imaging_features(features)
    for representation in representations:
        vectors = features.semantic if representation.features == "semantic" else imaging
        similarity = histogram_intersection(vectors, representation.vectors)
        scores[:, representation.class_id] = similarity.max(axis=1)
    return scores


def label_regions(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], taxonomy: Taxonomy, threshold: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return Cls of eq (5): the best object where one is above its threshold, else the best scene, else 255.

    Parameters
    ----------
    scores
        Refined scores, float32 [K, C].
    allowed
        Classes that may stand where each superpixel is, bool [K, C].
    taxonomy
        Tells objects from scenes.
    threshold
        Per class, float32 [C]; a best score below it is ignored.

    Returns
    -------
    uint8 [K]
        Class ids; 255 where neither kind reaches its threshold.
    """
    labels = best_of(scores, allowed, taxonomy.ids_of("scene"), threshold)
    objects = best_of(scores, allowed, taxonomy.ids_of("object"), threshold)
    return np.where(objects != IGNORED, objects, labels)


def best_of(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], classes: NDArray[np.int64], threshold: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the best allowed one of `classes` for each superpixel, uint8 [K].

    255 where it misses its threshold, or none is allowed.
    """
    if not len(classes):
        return np.full(len(scores), IGNORED, np.uint8)
    candidates = np.where(allowed[:, classes], scores[:, classes], -np.inf)
    best = candidates.argmax(axis=1)
    highest = candidates[np.arange(len(scores)), best]
    reached = np.isfinite(highest) & (highest >= threshold[classes][best])
    return np.where(reached, classes[best], IGNORED).astype(np.uint8)


def region_means(values: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the mean of maps float32 [C, H, W] over each superpixel of labels int32 [H, W], 0..K-1: float32 [K, C]."""
    area = np.bincount(labels.ravel())
    sums = [np.bincount(labels.ravel(), one.ravel(), minlength=len(area)) for one in values]
    return (np.stack(sums, axis=1) / area[:, None]).astype(np.float32)


def region_shares(prediction: NDArray[np.uint8], labels: NDArray[np.int32], classes: int) -> NDArray[np.float32]:
    """Return SM of eq (6): the share of each superpixel's pixels that the network predicts as each class.

    Parameters
    ----------
    prediction
        Class ids, uint8 [H, W], 0..classes-1.
    labels
        Superpixels, int32 [H, W], 0..K-1.
    classes
        Their number C.

    Returns
    -------
    float32 [K, C]
        Each row sums to 1.
    """
    count = int(labels.max()) + 1
    votes = np.bincount((labels * classes + prediction).ravel(), minlength=count * classes).reshape(count, classes)
    return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
