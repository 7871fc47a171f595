"""How well predicted boundaries lie on the true ones: the boundary F-score of Csurka, Larlus and Perronnin (2013).

"What is a good evaluation measure for semantic segmentation?", BMVC 2013. A boundary pixel is right where one of the
same class lies within a tolerance on the other side; F is the harmonic mean of the right shares of the predicted
(precision) and of the true boundary (recall), per frame and class. DAVIS judges single objects alike (Perazzi et al.,
CVPR 2016). Figures are fractions in [0, 1]; one that is undefined is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.taxonomy import IGNORED, Taxonomy

TOLERANCE = 0.0075
"""Of the frame's diagonal: Csurka's 0.75 %, 4.5 pixels at 360 x 480 and 17.2 at 1024 x 2048."""


@dataclass
class BoundaryScores:
    """Sums of the F-scores of any number of frames.

    Of two horizontal or vertical neighbours of different labels, each is a boundary pixel of its own class; the frame's
    edge is no boundary. Pixels whose truth is ignored are no neighbours, in the prediction neither. What lies on them
    is unknown, so a boundary pixel from which one of them is within the tolerance is not judged; others may still be
    matched with it. So ignored pixels count for nobody.
    """

    taxonomy: Taxonomy
    """The classes."""
    tolerance: float = TOLERANCE
    """Greatest Euclidean distance of two matched boundary pixels, as a share of the frame's diagonal."""
    class_sums: NDArray[np.float64] = field(init=False)
    """float64 [C]: sum of each class's F over the frames where it is defined."""
    class_frames: NDArray[np.int64] = field(init=False)
    """int64 [C]: number of those frames."""
    frame_sum: float = field(init=False, default=0.0)
    """Sum of the frames' means."""
    frames: int = field(init=False, default=0)
    """Frames in which any class's F is defined."""

    def __post_init__(self) -> None:
        self.class_sums = np.zeros(len(self.taxonomy.classes))
        self.class_frames = np.zeros(len(self.taxonomy.classes), np.int64)

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Score a frame.

        Parameters
        ----------
        truth
            uint8 [H, W], class ids and 255.
        prediction
            uint8 [H, W], class ids and 255: beside a class, a pixel left at 255 makes a boundary.
        """
        scores = self.frame_scores(truth, prediction)
        defined = ~np.isnan(scores)
        self.class_sums[defined] += scores[defined]
        self.class_frames += defined
        if defined.any():
            self.frame_sum += float(scores[defined].mean())
            self.frames += 1

    def frame_scores(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return each class's F in one frame, float64 [C].

        NaN where the class is not in the counted truth, or neither side has a boundary of it that is judged. Where
        only one of precision and recall is defined, it is F: 0, if the other side has no boundary at all.
        """
        reach = self.tolerance * float(np.hypot(*truth.shape))
        counted = truth != IGNORED
        judged = _distance(~counted) > reach
        true_boundary, predicted_boundary = _boundary(truth, counted), _boundary(prediction, counted)
        scores = np.full(len(self.taxonomy.classes), np.nan)
        for class_id in np.unique(truth[counted]):
            true = true_boundary & (truth == class_id)
            predicted = predicted_boundary & (prediction == class_id)
            scores[class_id] = _harmonic_mean(
                [_matched(predicted & judged, true, reach), _matched(true & judged, predicted, reach)]
            )
        return scores

    def class_f(self) -> NDArray[np.float64]:
        """Return each class's F, float64 [C]: its mean over the frames whose truth shows a boundary of it."""
        with np.errstate(invalid="ignore"):
            return self.class_sums / self.class_frames

    def mean_f(self) -> float:
        """Return Csurka's score of the data set: the mean over the frames of each frame's mean over its true classes.

        It is not the mean of `class_f`: in a frame all of its classes count alike, so rare classes weigh little.
        """
        return self.frame_sum / self.frames if self.frames else float("nan")


def _boundary(labels: NDArray[np.uint8], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that have a counted neighbour of another label and are counted themselves, bool [H, W]."""
    boundary = np.zeros(labels.shape, bool)
    for one, other in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        differ = (labels[one] != labels[other]) & counted[one] & counted[other]
        boundary[one] |= differ
        boundary[other] |= differ
    return boundary


def _distance(targets: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the Euclidean distance of each pixel to the nearest target, float32 [H, W]; infinite without any."""
    if not targets.any():
        return np.full(targets.shape, np.inf, np.float32)
    elsewhere = (~targets).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _matched(pixels: NDArray[np.bool_], targets: NDArray[np.bool_], reach: float) -> float:
    """Return the share of the pixels that have a target within reach; NaN without pixels."""
    return float((_distance(targets)[pixels] <= reach).mean()) if pixels.any() else float("nan")


def _harmonic_mean(shares: Sequence[float]) -> float:
    """Return the harmonic mean of those that are defined; NaN without any."""
    defined = [share for share in shares if not np.isnan(share)]
    if not defined:
        return float("nan")
    return len(defined) / sum(1 / share for share in defined) if all(defined) else 0.0
