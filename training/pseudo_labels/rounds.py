"""The pseudo labels of a round, frame by frame: from scores, or from what the network of the round before predicts.

The loop `paper` hands labels on: what the network predicts is, refined, what it learns next. The loop `best` starts
from the annotated pixels in every round: the graph's scores stay, and the network's prediction is added to them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.datasets.base import Dataset
from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.confidence import label_confidence
from training.pseudo_labels.inference import region_means
from training.pseudo_labels.labelling import iterated_labels
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.scoring import LoadRegions, Scored, Scoring, score_by_propagation
from training.segmentation.networks import DeepLab
from training.segmentation.prediction import class_probabilities, predict
from training.settings import Settings

LEAST_PROBABILITY = 1e-3
"""No network is believed to be surer than this that a class is absent."""


class FrameLabels(NamedTuple):
    """The pseudo labels of one frame's K superpixels."""

    frame_id: str
    labels: NDArray[np.uint8]
    """uint8 [K], class ids, 255 ignored."""
    confidence: NDArray[np.float32]
    """What each is sure of, float32 [K] in [0, 1]; 0 where it is ignored."""


def labels_by_scores(scoring: Scoring, frame_ids: Sequence[str]) -> Iterator[FrameLabels]:
    """Yield the labels that scores decide: of the first round, and of every round of the loop `best`."""
    confidence = label_confidence(scoring)
    for frame_id in frame_ids:
        yield FrameLabels(frame_id, scoring.labels(frame_id), confidence[frame_id])


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
    scoring = score_by_propagation(frame_ids, load, graph, dataset.taxonomy, settings.pseudo_labels)
    frames = {}
    for frame_id in tqdm(frame_ids, desc="prediction", unit="frame", disable=None):
        scored = scoring.frames[frame_id]
        probabilities = class_probabilities(network, dataset.frame(frame_id), settings.network.input_size)
        means = region_means(probabilities, load(frame_id).labels)
        opinion = settings.iterations.prediction_weight * np.log(np.maximum(means, LEAST_PROBABILITY))
        frames[frame_id] = Scored(scored.before, (scored.after + opinion).astype(np.float32), scored.allowed)
    return replace(scoring, frames=frames, step="margin and prediction")


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
        `iterations`, `pseudo_labels` and the network's input size are used.
    """
    for frame_id in frame_ids:
        prediction = predict(network, dataset.frame(frame_id), settings.network.input_size)
        decided = iterated_labels(
            load(frame_id), prediction.class_ids, dataset.taxonomy, settings.pseudo_labels, settings.iterations
        )
        yield FrameLabels(frame_id, *decided)
