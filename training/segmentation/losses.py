"""The loss: the cross entropy of the labelled pixels, weighed by class and by confidence, to labels hard or soft."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.segmentation.networks import resize_logits
from training.taxonomy import IGNORED


def pixel_weights(labels: Tensor, confidence: Tensor | None, class_weights: Tensor | None) -> Tensor:
    """Return what each pixel weighs in the loss: 0 where it is ignored.

    Parameters
    ----------
    labels
        Class ids, int64 [N, H, W], 255 ignored.
    confidence
        What each label is sure of, float32 [N, H, W] in [0, 1]; None where all are sure.
    class_weights
        float32 [C]; None where all classes weigh 1.

    Returns
    -------
    Tensor
        float32 [N, H, W].
    """
    counted = labels != IGNORED
    weights = counted.float()
    if class_weights is not None:
        weights = weights * class_weights[torch.where(counted, labels, 0)]
    return weights if confidence is None else weights * confidence


def segmentation_loss(
    logits: Tensor, targets: Tensor, output_stride: int, weights: Tensor, total: Tensor | float
) -> Tensor:
    """Return the weighted sum of the pixels' cross entropies over `total`; 0 where nothing weighs.

    Parameters
    ----------
    logits
        Float [N, C, h, w], one per cell.
    targets
        Labels, int64 [N, H, W], 255 ignored, or class distributions, float32 [N, C, H, W].
    output_stride
        Pixels per cell.
    weights
        Of the pixels, float32 [N, H, W]: `pixel_weights`.
    total
        Sum of the weights of the whole batch, of which these crops may be a part.

    Returns
    -------
    Tensor
        float32, a scalar.
    """
    full = resize_logits(logits, targets.shape[-2], targets.shape[-1], output_stride)
    if targets.is_floating_point():
        entropy = functional.cross_entropy(full, targets, reduction="none")
    else:
        entropy = functional.cross_entropy(full, targets, ignore_index=IGNORED, reduction="none")
    return (entropy * weights).sum() / max(float(total), 1e-12)


def balanced_weights(labels: Iterable[NDArray[np.uint8]], classes: int, power: float) -> NDArray[np.float32]:
    """Return each class's weight, its frequency to the power `-power`, such that the mean over all pixels is 1.

    Parameters
    ----------
    labels
        Class ids of the training frames, uint8 [H, W] each, 255 ignored.
    classes
        Their number C.
    power
        0 gives 1 for all, 1 the same sum of weights for each class.

    Returns
    -------
    float32 [C]
        1 for a class that no pixel has.
    """
    counts = np.zeros(256, np.int64)
    for one in labels:
        counts += np.bincount(one.ravel(), minlength=256)
    seen = counts[:classes]
    weights = np.where(seen > 0, np.maximum(seen, 1) / max(seen.sum(), 1), 1.0) ** -power
    mean = (weights * seen).sum() / max(seen.sum(), 1)
    return np.where(seen > 0, weights / max(mean, 1e-12), 1).astype(np.float32)
