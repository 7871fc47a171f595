"""Everything that is said of a network's masks on a labelled split, gathered frame by frame.

It holds counts and sums alone, so that memory does not depend on the number of frames.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.datasets.base import Dataset
from training.evaluation.boundary import BoundaryScores
from training.evaluation.calibration import Calibration
from training.evaluation.metrics import ConfusionMatrix, none_where_undefined
from training.segmentation.networks import DeepLab
from training.segmentation.prediction import predict
from training.taxonomy import Taxonomy


class Evaluation:
    """A confusion matrix, the boundaries' scores and the confidence's calibration.

    Parameters
    ----------
    taxonomy
        The classes.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.confusion = ConfusionMatrix(taxonomy)
        self.boundary = BoundaryScores(taxonomy)
        self.calibration = Calibration()
        self.frames = 0

    def update(
        self, truth: NDArray[np.uint8], class_ids: NDArray[np.uint8], confidence: NDArray[np.uint8] | None = None
    ) -> None:
        """Count a frame.

        Parameters
        ----------
        truth
            uint8 [H, W], class ids and 255, which counts for nobody.
        class_ids
            The prediction, uint8 [H, W], class ids and 255.
        confidence
            255 x the winning class's probability, uint8 [H, W]; None where the prediction has none.

        Raises
        ------
        ValueError
            If the shapes differ or a value is neither a class id nor 255.
        """
        self.confusion.update(truth, class_ids)
        self.boundary.update(truth, class_ids)
        if confidence is not None:
            self.calibration.update(truth, class_ids, confidence)
        self.frames += 1

    def report(self) -> dict[str, Any]:
        """Return all figures as JSON has them: fractions in [0, 1], None where one is undefined.

        `miou_class`, `miou_category`, `frequency_weighted_iou`, `pixel_accuracy`, `mean_boundary_f` and
        `calibration_error`; `iou`, `precision`, `recall` and `boundary_f` by class name, `iou_category` by category;
        `reliability`, the reliability diagram's bins; and `frames`, how many were counted.
        """
        names, confusion = self.taxonomy.names, self.confusion
        return {
            "miou_class": none_where_undefined(confusion.miou_class()),
            "miou_category": none_where_undefined(confusion.miou_category()),
            "frequency_weighted_iou": none_where_undefined(confusion.frequency_weighted_iou()),
            "pixel_accuracy": none_where_undefined(confusion.pixel_accuracy()),
            "mean_boundary_f": none_where_undefined(self.boundary.mean_f()),
            "calibration_error": none_where_undefined(self.calibration.error()),
            "iou": _by_name(names, confusion.class_iou()),
            "iou_category": _by_name(self.taxonomy.categories, confusion.category_iou()),
            "precision": _by_name(names, confusion.precision()),
            "recall": _by_name(names, confusion.recall()),
            "boundary_f": _by_name(names, self.boundary.class_f()),
            "reliability": [asdict(entry) for entry in self.calibration.reliability()],
            "frames": self.frames,
        }

    def network_metrics(self, prefix: str = "val") -> dict[str, float]:
        """Return what is logged of a network, by MLflow's keys; undefined figures are left out.

        The confusion matrix's, `<prefix>/boundary_f` (the mean) and `<prefix>/calibration_error`.
        """
        more = {
            f"{prefix}/boundary_f": self.boundary.mean_f(),
            f"{prefix}/calibration_error": self.calibration.error(),
        }
        defined = {key: value for key, value in more.items() if not math.isnan(value)}
        return self.confusion.network_metrics(prefix) | defined


def _by_name(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    return {name: none_where_undefined(value) for name, value in zip(names, values, strict=True)}


def evaluate_network(network: DeepLab, dataset: Dataset, size: tuple[int, int], description: str) -> Evaluation:
    """Let a network predict a split's frames and score what it answers; nothing, where they have no labels.

    Parameters
    ----------
    network
        Sees each frame once.
    dataset
        The split.
    size
        Height and width at which it sees them, pixels.
    description
        Of the progress bar.
    """
    evaluation = Evaluation(dataset.taxonomy)
    frame_ids = dataset.frame_ids if dataset.has_labels else ()
    for frame_id in tqdm(frame_ids, desc=description, unit="frame", disable=None):
        prediction = predict(network, dataset.frame(frame_id), size)
        evaluation.update(dataset.labels(frame_id), *prediction)
    return evaluation
