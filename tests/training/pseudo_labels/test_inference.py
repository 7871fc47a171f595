import numpy as np
import pytest

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.pseudo_labels.inference import class_scores, label_regions, region_shares
from training.pseudo_labels.representation import Representation
from training.taxonomy import ClassInfo, Taxonomy


def info(name, kind):
    return ClassInfo(name=name, colour=(0, 0, 0), category=name, kind=kind, bands=(1, 2, 3, 4))


TAXONOMY = Taxonomy("test", (info("road", "scene"), info("car", "object"), info("sky", "scene"), info("bus", "object")))


def test_scores_take_semantics_for_objects_and_the_best_of_the_pool_for_scenes():
    features = make_features(2, semantic=np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0]], np.float32))
    black = np.concatenate([np.tile(one_hot([0], 32) / 3, (1, 3)), one_hot([0], 32)], axis=1) / 2
    white = np.concatenate([np.tile(one_hot([31], 32) / 3, (1, 3)), one_hot([0], 32)], axis=1) / 2
    representations = [
        Representation(0, "imaging", np.concatenate([white, black]), 2, (2.0,)),
        Representation(1, "semantic", np.array([[0.25, 0.75, 0, 0]], np.float32), 1, (1.0,)),
        Representation(2, "imaging", white, 1, (1.0,)),
        Representation(3, "semantic", one_hot([3], 4), 1, (1.0,)),
    ]
    scores = class_scores(features, representations, TAXONOMY)
    assert scores == pytest.approx(np.array([[1, 0.75, 0.5, 0], [1, 0, 0.5, 0]]))


def test_equation_5_object_first_then_scene_then_ignored():
    scores = np.array(
        [
            [0.9, 0.3, 0.1, 0.2],  # an object above its threshold wins over a better scene
            [0.9, 0.1, 0.1, 0.1],  # no object: the best scene
            [0.1, 0.1, 0.1, 0.1],  # neither
            [0.9, 0.9, 0.3, 0.3],  # the better object may not stand here
        ],
        np.float32,
    )
    allowed = np.ones((4, 4), bool)
    allowed[3, [0, 1]] = False
    threshold = np.full(4, 0.2, np.float32)
    assert label_regions(scores, allowed, TAXONOMY, threshold).tolist() == [1, 0, 255, 3]


def test_equation_6_by_hand():
    labels = np.array([[0, 0, 1], [0, 0, 1]], np.int32)
    prediction = np.array([[2, 2, 0], [2, 1, 0]], np.uint8)
    assert region_shares(prediction, labels, 3) == pytest.approx(np.array([[0, 0.25, 0.75], [1, 0, 0]]))
