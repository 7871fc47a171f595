import numpy as np

from tests.training.pseudo_labels.regions import make_features
from tests.training.pseudo_labels.test_scoring import TAXONOMY
from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.labelling import iterated_labels
from training.settings.learning import IterationSettings
from training.settings.method import PseudoLabelSettings


def test_the_next_round_ignores_superpixels_on_which_the_network_is_split():
    features = make_features(
        3, labels=np.array([[0, 0], [1, 1], [2, 2]], np.int32), edge_similarity=np.eye(3, dtype=np.float32)
    )
    prediction = np.array([[0, 0], [1, 2], [2, 2]], np.uint8)
    settings, iterations = PseudoLabelSettings(edge_scale=0.01), IterationSettings(threshold=0.6)
    labels, scored = iterated_labels(features, prediction, TAXONOMY, settings, iterations)
    assert labels.tolist() == [0, 255, 2]
    assert scored.before[1].tolist() == [0, 0.5, 0.5] and (scored.after[[0, 2], [0, 2]] >= 0.6).all()


def test_the_context_of_embedded_regions_is_that_of_the_ones_that_touch():
    regions = EmbeddedRegions(
        labels=np.array([[0, 0], [1, 1], [2, 2]], np.int32),
        embedding=np.eye(3, dtype=np.float32),
        adjacent=np.array([[0, 1], [1, 2]], np.int32),
        contour=np.array([0, 1], np.float32),
        band=np.full(3, 3, np.uint8),
        width=np.ones(3, np.float32),
        area=np.full(3, 2),
    )
    # Region 1 is split; region 0, from which no contour parts it, decides.
    prediction = np.array([[0, 0], [0, 2], [2, 2]], np.uint8)
    settings, iterations = PseudoLabelSettings(edge_scale=0.1), IterationSettings(threshold=0.7)
    assert iterated_labels(regions, prediction, TAXONOMY, settings, iterations)[0].tolist() == [0, 0, 2]
    alone = iterations.model_copy(update={"refine": False})
    assert iterated_labels(regions, prediction, TAXONOMY, settings, alone)[0].tolist() == [0, 255, 2]
