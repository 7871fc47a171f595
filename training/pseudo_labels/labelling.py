"""The labels of one frame by itself: a new one from a solved graph, or one that a network has predicted."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.features.embedding import EmbeddedRegions
from training.features.regions import RegionFeatures
from training.pseudo_labels.inference import best_of, region_shares
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.refinement import refine, where_allowed
from training.pseudo_labels.scoring import Scored, score_by_propagation
from training.pseudo_labels.similarity import adjacent_context, context_similarity
from training.settings.learning import IterationSettings
from training.settings.method import PseudoLabelSettings
from training.taxonomy import Taxonomy


def spread_labels(
    frame_id: str, regions: EmbeddedRegions, graph: Propagation, taxonomy: Taxonomy, settings: PseudoLabelSettings
) -> NDArray[np.uint8]:
    """Label a frame's superpixels from a solved graph, whether the frame is in it or new.

    Returns
    -------
    uint8 [K]
        Class ids; 255 where no class may stand, or nothing is known.
    """
    return score_by_propagation([frame_id], lambda _: regions, graph, taxonomy, settings).labels(frame_id)


def iterated_labels(
    features: RegionFeatures | EmbeddedRegions,
    prediction: NDArray[np.uint8],
    taxonomy: Taxonomy,
    settings: PseudoLabelSettings,
    iterations: IterationSettings,
) -> tuple[NDArray[np.uint8], Scored]:
    """Label a frame's superpixels from the network's prediction, for the next round (paper, section 5).

    Eq (6), then context-location refinement of all classes together; below the threshold a superpixel is ignored. The
    context is eq (3), or for embedded regions that of the regions that touch. Without `iterations.refine` eq (6) alone
    decides.

    Returns
    -------
    labels
        uint8 [K], class ids, or 255.
    scored
        The shares of the classes on which they are decided, before refinement and after.
    """
    classes = len(taxonomy.classes)
    shares = region_shares(prediction, features.labels, classes)
    refined, allowed = shares, np.ones((len(features.area), classes), bool)
    if iterations.refine:
        context: NDArray[np.float32] | sparse.csr_array
        if isinstance(features, EmbeddedRegions):
            context = adjacent_context(features.adjacent, features.contour, len(features.area), settings.edge_scale)
        else:
            context = context_similarity(features, settings.edge_scale)
        refined, allowed = refine(shares, context), where_allowed(features.band, features.width, taxonomy, settings)
    threshold = np.full(classes, iterations.threshold, np.float32)
    return best_of(refined, allowed, np.arange(classes), threshold), Scored(shares, refined, allowed)
