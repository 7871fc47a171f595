"""Whether a confidence of 0.8 is right eight times in ten: reliability diagram and expected calibration error.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017. Each pixel whose truth counts is
one of its samples.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.taxonomy import IGNORED

BINS = 15
"""Equal in width; Guo's number, which also divides the 255 steps of a confidence."""
_STEPS = 255


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """One bin of the diagram: confidences above `low`, up to `high`."""

    low: float
    high: float
    pixels: int
    confidence: float | None
    """Mean confidence; None without pixels."""
    accuracy: float | None
    """Share that is right; None without pixels."""


@dataclass
class Calibration:
    """Counts by confidence over any number of frames."""

    counts: NDArray[np.int64] = field(init=False)
    """int64 [2, 256]: counted pixels by confidence (255 x the winning probability), wrong and right ones."""

    def __post_init__(self) -> None:
        self.counts = np.zeros((2, _STEPS + 1), np.int64)

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> None:
        """Count a frame.

        Parameters
        ----------
        truth, prediction
            uint8 [H, W], class ids and 255; where the truth is 255 nothing counts.
        confidence
            255 x the winning class's probability, uint8 [H, W].
        """
        counted = truth != IGNORED
        right = (truth == prediction)[counted]
        pairs = right.astype(np.int64) * (_STEPS + 1) + confidence[counted]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def reliability(self) -> list[ReliabilityBin]:
        """Return the reliability diagram: `BINS` bins of equal width, ((m - 1) / BINS, m / BINS], 0 in the first."""
        confidences = np.arange(_STEPS + 1)
        bins = np.maximum(-(-confidences * BINS // _STEPS) - 1, 0)
        diagram = []
        for number in range(BINS):
            inside = self.counts[:, bins == number]
            pixels = int(inside.sum())
            total = float(inside.sum(axis=0) @ confidences[bins == number]) / _STEPS
            diagram.append(
                ReliabilityBin(
                    low=number / BINS,
                    high=(number + 1) / BINS,
                    pixels=pixels,
                    confidence=total / pixels if pixels else None,
                    accuracy=int(inside[1].sum()) / pixels if pixels else None,
                )
            )
        return diagram

    def error(self) -> float:
        """Return the expected calibration error: |accuracy - confidence| of the bins, weighted by their pixels.

        A fraction in [0, 1]; NaN where nothing was counted.
        """
        pixels = int(self.counts.sum())
        gaps = [
            entry.pixels * abs(entry.accuracy - entry.confidence)
            for entry in self.reliability()
            if entry.accuracy is not None and entry.confidence is not None
        ]
        return sum(gaps) / pixels if pixels else float("nan")
