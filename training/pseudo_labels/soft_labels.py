"""Soft labels: how likely each class is in a superpixel, instead of the likeliest class alone."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from training.taxonomy import IGNORED


def class_distributions(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], labels: NDArray[np.uint8], temperature: float
) -> NDArray[np.float32]:
    """Return the softmax of each superpixel's scores over the classes that may stand there.

    Parameters
    ----------
    scores
        Of the K superpixels, float32 [K, C]: logarithms of probabilities up to a factor.
    allowed
        Classes that may stand where each superpixel is, bool [K, C].
    labels
        uint8 [K], class ids, 255 where a superpixel is ignored.
    temperature
        What the scores are divided by, above 0: the higher, the softer.

    Returns
    -------
    float32 [K, C]
        Each row sums to 1; that of an ignored superpixel is 0.

    References
    ----------
    G. Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    distributions = np.zeros_like(scores, np.float32)
    known = labels != IGNORED
    distributions[known] = softmax(np.where(allowed, scores, -np.inf)[known] / temperature, axis=1)
    return distributions
