"""Context-location refinement: eq (4) within a frame, and the bands where a class may stand (paper, section 4.4)."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.settings.method import PseudoLabelSettings
from training.taxonomy import Taxonomy


def refine(scores: NDArray[np.float32], context: NDArray[np.float32] | sparse.csr_array) -> NDArray[np.float32]:
    """Return M_r = M . Simc of eq (4), each column of Simc normalised to sum 1.

    Parameters
    ----------
    scores
        M transposed, float32 [K, C].
    context
        Simc of eq (3), float32 [K, K], symmetric, 1 on the diagonal; dense or sparse.

    Returns
    -------
    float32 [K, C]
        Each row a convex combination of the rows of `scores`.
    """
    total: NDArray[np.float32] = context.sum(axis=0, dtype=np.float32)
    return np.asarray((context.T @ scores) / total[:, None], np.float32)


def allowed_classes(band: NDArray[np.uint8], taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """Return the classes that may stand in each superpixel's band, bool [K, C] (paper, figure 6 (a))."""
    return taxonomy.allowed[band.astype(np.int64) - 1]


def where_allowed(
    band: NDArray[np.uint8], width: NDArray[np.float32], taxonomy: Taxonomy, settings: PseudoLabelSettings
) -> NDArray[np.bool_]:
    """Return the classes that each superpixel may be of, bool [K, C].

    Parameters
    ----------
    band
        Row of the frame, uint8 [K], 1 (top) to 4 (bottom), where `location` holds.
    width
        Columns that it spans, as a share of the frame's, float32 [K], where `thin` holds.
    taxonomy
        Where its classes may stand, and how wide they may be.
    settings
        `location` and `thin`; without either, all classes.
    """
    allowed = np.ones((len(band), len(taxonomy.classes)), bool)
    if settings.location:
        allowed &= allowed_classes(band, taxonomy)
    if settings.thin:
        allowed &= width[:, None] <= taxonomy.most_width
    return allowed
