"""How well predicted masks match the truth: one streaming confusion matrix, and every figure that follows from it.

The rules are Cityscapes' (cityscapesScripts, evalPixelLevelSemanticLabeling.py): pixels whose truth is ignored count
for nobody, a class leaves the mean only where it is neither in the truth nor predicted on counted pixels, and a
category counts confusions among its own classes as right. All figures are fractions in [0, 1]; one that is undefined
is NaN.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.taxonomy import IGNORED, Taxonomy


@dataclass
class ConfusionMatrix:
    """Counts of (truth, prediction) over any number of frames."""

    taxonomy: Taxonomy
    """The classes."""
    counts: NDArray[np.int64] = field(init=False)
    """int64 [C, C + 1]: pixels of each true class (row) by predicted class; the last column holds those that were
    predicted as nothing (255)."""

    def __post_init__(self) -> None:
        classes = len(self.taxonomy.classes)
        self.counts = np.zeros((classes, classes + 1), np.int64)

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count a frame, or a stack of frames.

        Parameters
        ----------
        truth
            uint8 of any shape, class ids and 255.
        prediction
            uint8 of the same shape, class ids and 255: a pixel left at 255 is missed by its true class.

        Raises
        ------
        ValueError
            If the shapes differ or a value is neither a class id nor 255.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"prediction is {prediction.shape}, its truth is {truth.shape}; they must be equal")
        classes, columns = self.counts.shape
        for name, mask in (("truth", truth), ("prediction", prediction)):
            wrong = mask[(mask >= classes) & (mask != IGNORED)]
            if wrong.size:
                raise ValueError(f"{name} holds {wrong[0]}; allowed are 0 to {classes - 1} and {IGNORED}")
        counted = truth != IGNORED
        pairs = truth[counted].astype(np.int64) * columns + np.minimum(prediction[counted], classes)
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def class_iou(self) -> NDArray[np.float64]:
        """Return each class's intersection over union, float64 [C]; NaN where it is neither true nor predicted."""
        return _iou(self.counts)

    def category_iou(self) -> NDArray[np.float64]:
        """Return each category's intersection over union, float64 [categories], by `Taxonomy.categories`."""
        member = self.taxonomy.category_ids[:, None] == np.arange(len(self.taxonomy.categories))
        predicted = member.T @ self.counts[:, :-1] @ member
        missed = member.T @ self.counts[:, -1:]
        return _iou(np.hstack([predicted, missed]))

    def miou_class(self) -> float:
        """Return the mean of the defined class IoUs; NaN where nothing was counted."""
        return _mean(self.class_iou())

    def miou_category(self) -> float:
        """Return the mean of the defined category IoUs; NaN where nothing was counted."""
        return _mean(self.category_iou())

    def precision(self) -> NDArray[np.float64]:
        """Return the share of each class's predicted pixels that are right, float64 [C]; NaN where never predicted."""
        return _ratio(np.diagonal(self.counts), self.counts[:, :-1].sum(axis=0))

    def recall(self) -> NDArray[np.float64]:
        """Return the share of each class's true pixels that are found, float64 [C]; NaN where never true."""
        return _ratio(np.diagonal(self.counts), self.counts.sum(axis=1))

    def pixel_accuracy(self) -> float:
        """Return the share of counted pixels that are right."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def frequency_weighted_iou(self) -> float:
        """Return the mean of the class IoUs, each weighted by its share of the true pixels (Long et al., 2015).

        A class that is predicted but never true has no weight; NaN where nothing was counted.
        """
        frequency = _ratio(self.counts.sum(axis=1), self.counts.sum())
        return float((frequency * np.nan_to_num(self.class_iou())).sum())

    def coverage(self) -> float:
        """Return the share of counted pixels that were predicted as some class."""
        return float(_ratio(self.counts[:, :-1].sum(), self.counts.sum()))

    def network_metrics(self, prefix: str = "val") -> dict[str, float]:
        """Return what is logged of a network, by MLflow's keys; undefined figures are left out.

        The keys are `<prefix>/miou_class`, `<prefix>/miou_category`, `<prefix>/pixel_accuracy`,
        `<prefix>/frequency_weighted_iou`, and `<prefix>/iou/<class>` for each class.
        """
        metrics = {
            f"{prefix}/miou_class": self.miou_class(),
            f"{prefix}/miou_category": self.miou_category(),
            f"{prefix}/pixel_accuracy": self.pixel_accuracy(),
            f"{prefix}/frequency_weighted_iou": self.frequency_weighted_iou(),
        }
        for name, iou in zip(self.taxonomy.names, self.class_iou(), strict=True):
            metrics[f"{prefix}/iou/{name}"] = float(iou)
        return _defined(metrics)

    def pseudo_label_metrics(self, prefix: str = "pseudo") -> dict[str, float]:
        """Return what is logged of pseudo labels, by MLflow's keys; undefined figures are left out.

        `<prefix>/precision` and `<prefix>/recall` are means over the classes, a class that is true but never
        predicted having precision 0; `<prefix>/coverage`, `<prefix>/miou_class`, and `<prefix>/iou/<class>`.
        """
        recall = self.recall()
        precision = np.where(np.isnan(recall), np.nan, np.nan_to_num(self.precision()))
        metrics = {
            f"{prefix}/precision": _mean(precision),
            f"{prefix}/recall": _mean(recall),
            f"{prefix}/coverage": self.coverage(),
            f"{prefix}/miou_class": self.miou_class(),
        }
        for name, iou in zip(self.taxonomy.names, self.class_iou(), strict=True):
            metrics[f"{prefix}/iou/{name}"] = float(iou)
        return _defined(metrics)


def none_where_undefined(value: float) -> float | None:
    """Return a figure as JSON has it."""
    return None if math.isnan(value) else float(value)


def region_oracle(regions: NDArray[np.int32], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label each superpixel with the majority of its counted truth: the ceiling of every method that labels regions.

    Parameters
    ----------
    regions
        Superpixel of each pixel, int32 [H, W], from 0.
    truth
        uint8 [H, W], class ids and 255.

    Returns
    -------
    NDArray[np.uint8]
        uint8 [H, W]; 255 where a superpixel has no counted pixel. Of equally frequent classes, the lowest id.
    """
    counted = truth != IGNORED
    count = int(regions.max()) + 1
    pairs = regions[counted].astype(np.int64) * IGNORED + truth[counted]
    votes = np.bincount(pairs, minlength=count * IGNORED).reshape(count, IGNORED)
    majority = np.where(votes.any(axis=1), votes.argmax(axis=1), IGNORED).astype(np.uint8)
    return majority[regions]


def band_prior_labels(taxonomy: Taxonomy, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what the bands alone would guess, uint8 [H, W] of `shape`: the floor of every report.

    Row y lies in band floor(4 y / H), from the top.
    """
    height, width = shape
    prior = taxonomy.band_prior()
    rows = prior[np.arange(height) * len(prior) // height]
    return np.repeat(rows[:, None], width, axis=1)


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    hits = np.diagonal(counts)
    return _ratio(hits, counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - hits)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.asarray(part, np.float64) / whole


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _defined(metrics: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if not np.isnan(value)}
