"""An exported model on a data set: the frames go the way that a server sends them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from serving.errors import InputError
from serving.model import Model
from training.datasets import Dataset, evenly_spaced
from training.evaluation.metrics import ConfusionMatrix


def evaluate_model(path: Path, dataset: Dataset, limit: int | None = None) -> dict[str, Any]:
    """Return the scores of an ONNX file on a labelled split.

    Parameters
    ----------
    path
        The exported model.
    dataset
        The split.
    limit
        Score this many of its frames, evenly spaced; None scores all.

    Returns
    -------
    dict
        `miou_class`, `miou_category`, `iou`, `precision` and `recall` by class name, `pixel_accuracy` (fractions in
        [0, 1]; None where undefined, as for a class that is neither in the truth nor predicted), `frames`: how many
        were scored, `model_digest`. It can be written as JSON.

    Raises
    ------
    InputError
        If the file is no model of ours, its classes are not the data set's, or the split has no labels.
    """
    model = Model.load(path)
    names = tuple(description.name for description in model.metadata.classes)
    if names != dataset.taxonomy.names:
        raise InputError(f"--model {path}: its classes are {', '.join(names)}; {dataset.taxonomy.name} has others")
    if not dataset.has_labels:
        raise InputError(f"--split {dataset.split}: has no labels to evaluate against")
    confusion = ConfusionMatrix(dataset.taxonomy)
    frame_ids = evenly_spaced(dataset.frame_ids, limit)
    for frame_id in tqdm(frame_ids, desc="evaluation", unit="frame", disable=None):
        confusion.update(dataset.labels(frame_id), model.segment(dataset.frame(frame_id))[0])

    def by_name(values: Iterable[float]) -> dict[str, float | None]:
        return {name: _defined(value) for name, value in zip(names, values, strict=True)}

    return {
        "miou_class": _defined(confusion.miou_class()),
        "miou_category": _defined(confusion.miou_category()),
        "iou": by_name(confusion.class_iou()),
        "precision": by_name(confusion.precision()),
        "recall": by_name(confusion.recall()),
        "pixel_accuracy": _defined(confusion.pixel_accuracy()),
        "frames": len(frame_ids),
        "model_digest": model.digest,
    }


def _defined(value: float) -> float | None:
    """Return a figure as JSON has it: None where it is undefined, NaN."""
    return None if math.isnan(value) else float(value)
