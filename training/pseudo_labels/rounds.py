"""The pseudo labels of a round, frame by frame: from scores, or from what the network of the round before predicts."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Dataset
from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.confidence import label_confidence
from training.pseudo_labels.labelling import iterated_labels
from training.pseudo_labels.scoring import Scoring
from training.segmentation.networks import DeepLab
from training.segmentation.prediction import predict
from training.settings import Settings


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
