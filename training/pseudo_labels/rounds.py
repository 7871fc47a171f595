"""The pseudo labels of a round, frame by frame: from scores, or from what the network of the round before predicts.

The loop `paper` hands labels on: what the network predicts is, refined, what it learns next. The loop `best` starts
from the annotated pixels in every round: the graph's scores stay, and the network's prediction is added to them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Dataset
from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.confidence import label_confidence
from training.pseudo_labels.inference import region_means
from training.pseudo_labels.labelling import iterated_labels
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.scoring import LoadRegions, Scoring, score_by_propagation
from training.pseudo_labels.soft_labels import class_distributions
from training.segmentation.networks import DeepLab
from training.segmentation.prediction import class_probabilities, predict
from training.settings import Settings
from training.taxonomy import IGNORED

LEAST_PROBABILITY = 1e-3
"""No network is believed to be surer than this that a class is absent."""


class FrameLabels(NamedTuple):
    """The pseudo labels of one frame's K superpixels."""

    frame_id: str
    labels: NDArray[np.uint8]
    """uint8 [K], class ids, 255 ignored."""
    confidence: NDArray[np.float32]
    """What each is sure of, float32 [K] in [0, 1]; 0 where it is ignored."""
    distributions: NDArray[np.float32] | None
    """How likely each class is, float32 [K, C]; 0 where it is ignored. None without soft labels."""


def labels_by_scores(scoring: Scoring, frame_ids: Sequence[str], temperature: float) -> Iterator[FrameLabels]:
    """Yield the labels that scores decide: of the first round, and of every round of the loop `best`.

    `temperature` is that of the soft labels (`training.soft_labels`), 0 for none.
    """
    confidence = label_confidence(scoring)
    for frame_id in frame_ids:
        scored, labels = scoring.frames[frame_id], scoring.labels(frame_id)
        soft = class_distributions(scored.after, scored.allowed, labels, temperature) if temperature else None
        yield FrameLabels(frame_id, labels, confidence[frame_id], soft)


def scores_with_prediction(
    graph: Propagation,
    network: DeepLab,
    dataset: Dataset,
    load: LoadRegions,
    frame_ids: Sequence[str],
    settings: Settings,
) -> Scoring:
    """Return the graph's scores with what a network predicts added to them: of later rounds of the loop `best`.

    A network that has learnt from the labels of all frames corrects single regions; the graph, which starts from the
    annotated pixels alone, keeps it from drifting. Added is the logarithm of a class's mean probability in the
    superpixel, times `iterations.prediction_weight`; what no path joins to an annotated pixel stays unknown. It is a
    product of experts (Hinton, 2002), for a graph's scores are logarithms up to a factor.

    Parameters
    ----------
    graph
        The solved graph of the first round.
    network
        Of the round before.
    dataset
        The training split.
    load
        Reads a frame's superpixels.
    frame_ids
        The frames to label.
    settings
        `iterations`, `pseudo_labels` and the network's input size are used.
    """

    def opinion(frame_id: str, regions: EmbeddedRegions) -> NDArray[np.float32]:
        probabilities = class_probabilities(network, dataset.frame(frame_id), settings.network.input_size)
        means = region_means(probabilities, regions.labels)
        weight = np.float32(settings.iterations.prediction_weight)
        return weight * np.log(np.maximum(means, np.float32(LEAST_PROBABILITY)))

    scoring = score_by_propagation(frame_ids, load, graph, dataset.taxonomy, settings.pseudo_labels, opinion)
    return replace(scoring, step="margin and prediction")


def labels_by_prediction(
    network: DeepLab,
    dataset: Dataset,
    load: Callable[[str], RegionFeatures | EmbeddedRegions],
    frame_ids: Sequence[str],
    settings: Settings,
) -> Iterator[FrameLabels]:
    """Yield the labels that a network's predictions decide, by eq (6): the loop `paper`.

    Parameters
    ----------
    network
        Of the round before.
    dataset
        The training split.
    load
        Reads a frame's superpixels and what relates them.
    frame_ids
        The frames to label.
    settings
        `iterations`, `pseudo_labels`, `training.soft_labels` and the network's input size are used.
    """
    temperature = settings.training.soft_labels
    for frame_id in frame_ids:
        prediction = predict(network, dataset.frame(frame_id), settings.network.input_size)
        labels, scored = iterated_labels(
            load(frame_id), prediction.class_ids, dataset.taxonomy, settings.pseudo_labels, settings.iterations
        )
        highest = np.where(scored.allowed, scored.after, 0).max(axis=1)
        soft = None
        if temperature:
            scores = np.log(np.maximum(scored.after, LEAST_PROBABILITY))
            soft = class_distributions(scores, scored.allowed, labels, temperature)
        yield FrameLabels(frame_id, labels, np.where(labels == IGNORED, 0, highest).astype(np.float32), soft)
