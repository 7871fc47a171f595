"""What a training learns from: frames at the network's input size, with a round's pseudo labels or the true ones."""

import numpy as np
from PIL import Image

from serving.errors import InputError
from training.datasets.base import Dataset
from training.features.regions import RegionFeatures
from training.run_folder import RunFolder
from training.segmentation.batches import Sample, SoftLabels, resized
from training.settings import Settings


def pseudo_sample(folder: RunFolder, dataset: Dataset, settings: Settings, number: int, frame_id: str) -> Sample:
    """Return a training frame and its pseudo labels of a round, with confidence and soft labels where they are asked.

    Parameters
    ----------
    folder
        Of the run that has labelled the round.
    dataset
        The training split.
    settings
        `training` and `network.input_size` are used.
    number
        The round, from 0.
    frame_id
        The frame.
    """
    confidence, soft = None, None
    if settings.training.confidence_weights:
        confidence = np.asarray(Image.open(folder.confidence(number, frame_id)))
    if settings.training.soft_labels:
        distributions = np.load(folder.soft_labels(number, frame_id)).astype(np.float32)
        soft = SoftLabels(RegionFeatures.load_labels(folder.features(frame_id)), distributions)
    labels = np.asarray(Image.open(folder.pseudo_labels(number, frame_id)))
    return resized(Sample(dataset.frame(frame_id), labels, confidence, soft), *settings.network.input_size)


def true_sample(dataset: Dataset, settings: Settings, frame_id: str) -> Sample:
    """Return a frame and its true labels, as the twin learns them."""
    return resized(Sample(dataset.frame(frame_id), dataset.labels(frame_id)), *settings.network.input_size)


def check_twin(dataset: Dataset, settings: Settings) -> None:
    """Refuse a twin that would be no upper bound.

    Raises
    ------
    InputError
        If the training split has no labels, or the rounds begin with another network than the twin.
    """
    if not dataset.has_labels:
        raise InputError(f"--twin: split '{settings.dataset.train}' has no labels to train on")
    if settings.iterations.start is not None:
        raise InputError(
            f"--twin: begins with the first weights, and iterations.start={settings.iterations.start} with others, so "
            "that it would be no upper bound; leave one of them out"
        )
