"""An exported model on a data set: the frames go the way that a server sends them."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from serving.errors import InputError
from serving.model import Model
from training.datasets.base import Dataset
from training.evaluation.metrics import ConfusionMatrix


def evaluate_model(path: Path, dataset: Dataset) -> dict[str, Any]:
    """Return the scores of an ONNX file on a labelled split.

    Returns
    -------
    dict
        `miou_class`, `miou_category`, `iou`, `precision` and `recall` by class name, `pixel_accuracy` (fractions in
        [0, 1]; None for a class that is neither in the truth nor predicted), `frames`.

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
    for frame_id in tqdm(dataset.frame_ids, desc="evaluation", unit="frame"):
        confusion.update(dataset.labels(frame_id), model.segment(dataset.frame(frame_id))[0])

    def by_name(values: Any) -> dict[str, float | None]:
        return {name: None if value != value else float(value) for name, value in zip(names, values, strict=True)}

    return {
        "miou_class": confusion.miou_class(),
        "miou_category": confusion.miou_category(),
        "iou": by_name(confusion.class_iou()),
        "precision": by_name(confusion.precision()),
        "recall": by_name(confusion.recall()),
        "pixel_accuracy": confusion.pixel_accuracy(),
        "frames": len(dataset),
        "model_digest": model.digest,
    }
