import numpy as np
import pytest

from training.pseudo_labels.confidence import label_confidence
from training.pseudo_labels.scoring import Scored, Scoring
from training.taxonomy import CAMVID

CLASSES = len(CAMVID.classes)


def scored(best, leads, allowed=None):
    """Superpixels whose class `best` leads all others by `leads`."""
    scores = np.zeros((len(best), CLASSES), np.float32)
    scores[np.arange(len(best)), best] = leads
    return Scored(scores, scores, np.ones(scores.shape, bool) if allowed is None else allowed)


def make_scoring(**frames):
    thresholds = np.full(CLASSES, -np.inf, np.float32)
    return Scoring(CAMVID, frames, thresholds, "score", "refinement", objects_first=False)


def test_confidence_is_the_rank_of_the_lead_among_its_class():
    found = label_confidence(make_scoring(one=scored([0, 0, 3], [1, 3, 0.5]), two=scored([0, 0], [2, 3])))
    assert found["one"].tolist() == [0.25, 1, 1]
    assert found["two"].tolist() == [0.5, 1]


def test_what_is_ignored_is_sure_of_nothing_and_an_only_class_of_all():
    nowhere = np.zeros((2, CLASSES), bool)
    nowhere[1, 4] = True
    found = label_confidence(make_scoring(one=scored([0, 4], [1, 1], nowhere)))
    assert found["one"].tolist() == [0, 1]


def test_an_object_that_a_scene_beats_is_the_less_sure_the_likelier_the_scene():
    car, road = CAMVID.names.index("Car"), CAMVID.names.index("Road")
    scores = np.zeros((3, CLASSES), np.float32)
    scores[:, car] = 2.1
    scores[:, road] = [2.2, 9, 1]
    frame = Scored(scores, scores, np.ones(scores.shape, bool))
    thresholds = np.full(CLASSES, 2, np.float32)
    scoring = Scoring(CAMVID, {"one": frame}, thresholds, "score", "refinement", objects_first=True)
    assert scoring.labels("one").tolist() == [car] * 3
    assert label_confidence(scoring)["one"].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
