import numpy as np
import pytest

from training.evaluation.score_histograms import score_histograms, shown_range
from training.pseudo_labels.scoring import Scored, Scoring
from training.taxonomy import CAMVID

CLASSES = len(CAMVID.classes)


def picture(before, after, allowed=None, threshold=2.0):
    allowed = np.ones(before.shape, bool) if allowed is None else allowed
    frames = {"one": Scored(before[:1], after[:1], allowed[:1]), "two": Scored(before[1:], after[1:], allowed[1:])}
    thresholds = np.full(CLASSES, threshold, np.float32)
    return score_histograms(Scoring(CAMVID, frames, thresholds, "score", "refinement", objects_first=True))


def shows(drawn, colour):
    return bool((drawn == colour).all(axis=2).any())


def test_the_picture_shows_every_class_and_the_threshold():
    scores = np.random.default_rng(0).standard_normal((200, CLASSES)).astype(np.float32)
    drawn = picture(scores, scores)
    assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3
    assert all(shows(drawn, info.colour) for info in CAMVID.classes)
    assert np.array_equal(drawn, picture(scores, scores))


def test_a_threshold_is_drawn_where_there_is_one():
    scores = np.random.default_rng(0).standard_normal((200, CLASSES)).astype(np.float32)
    with_one, without = (
        np.abs(picture(scores, scores, threshold=threshold) - np.array([209, 36, 47])).max(axis=2).min()
        for threshold in (2.0, -np.inf)
    )
    assert with_one < 50 < without  # how far the reddest pixel is from the line's colour


def test_before_stands_left_of_after():
    few, many = np.zeros((200, CLASSES), np.float32), np.zeros((200, CLASSES), np.float32)
    many[:, 1] = np.linspace(-1, 1, 200)
    building = (picture(few, many) == CAMVID.classes[1].colour).all(axis=2)
    columns = np.flatnonzero(building.any(axis=0))
    quarter = building.shape[1] // 4
    assert 0 < (columns < quarter).sum() < (columns >= quarter).sum() and columns.max() < 2 * quarter


def test_a_class_that_may_stand_nowhere_is_drawn_empty():
    scores = np.zeros((3, CLASSES), np.float32)
    allowed = np.ones(scores.shape, bool)
    allowed[:, 1] = False
    drawn = picture(scores, scores, allowed)
    assert not shows(drawn, CAMVID.classes[1].colour) and shows(drawn, CAMVID.classes[3].colour)


def test_a_range_leaves_out_the_outermost_scores_and_holds_the_threshold():
    scores = np.append(np.linspace(0, 1, 1998), [-1000, 1000]).astype(np.float32)
    assert shown_range(scores, -np.inf) == pytest.approx((0, 1), abs=1e-3)
    assert shown_range(scores, 3.0) == pytest.approx((0, 3), abs=1e-3)
    assert shown_range(np.empty((2, 0), np.float32), -np.inf) == (0, 0)
