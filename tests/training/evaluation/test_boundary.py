import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.evaluation.boundary import TOLERANCE, BoundaryScores
from training.taxonomy import CAMVID

A, B, C = 0, 1, 2


def scores(truth, prediction, pixels=0.0):
    """Each class's F in one frame, where boundaries match within so many pixels."""
    truth, prediction = np.array(truth, np.uint8), np.array(prediction, np.uint8)
    return BoundaryScores(CAMVID, pixels / np.hypot(*truth.shape) + 1e-9).frame_scores(truth, prediction)[: C + 1]


def columns(*labels, rows=4):
    return np.tile(np.array(labels, np.uint8), (rows, 1))


LEFT = columns(A, A, B, B, B, B)
"""The boundary is column 1 for A and column 2 for B."""
RIGHT = columns(A, A, A, B, B, B)
"""Likewise 2 and 3: one pixel further."""


def test_the_same_boundaries_are_right():
    np.testing.assert_array_equal(scores(LEFT, LEFT), [1, 1, np.nan])


@pytest.mark.parametrize(("pixels", "expected"), [(0.0, 0), (0.99, 0), (1.0, 1)])
def test_the_tolerance_is_a_distance_in_pixels(pixels, expected):
    np.testing.assert_array_equal(scores(LEFT, RIGHT, pixels), [expected, expected, np.nan])


def test_f_is_the_harmonic_mean_of_precision_and_recall():
    truth = np.array([[A, B], [B, B]], np.uint8)
    prediction = np.array([[A, B], [A, B]], np.uint8)
    # A: truth (0, 0); predicted (0, 0), (1, 0): precision 1/2, recall 1. B: truth (0, 1), (1, 0), (1, 1 is inside:
    # its neighbours are B); predicted (0, 1), (1, 1): precision 1/2, recall 1/2.
    np.testing.assert_allclose(scores(truth, prediction), [2 / 3, 1 / 2, np.nan])


def test_distance_is_euclidean():
    truth, prediction = np.full((2, 9, 9), A, np.uint8)
    truth[1, 1] = prediction[4, 5] = B  # 3 and 4 apart: 5 pixels
    assert scores(truth, prediction, 4.99)[B] == 0
    assert scores(truth, prediction, 5.0)[B] == 1


def test_a_boundary_on_one_side_alone_is_wrong():
    plain = columns(A, A, A, A, A, A)
    np.testing.assert_array_equal(scores(plain, LEFT), [0, np.nan, np.nan])
    np.testing.assert_array_equal(scores(LEFT, plain), [0, 0, np.nan])
    np.testing.assert_array_equal(scores(plain, plain), [np.nan, np.nan, np.nan])


def test_beside_a_class_a_pixel_without_one_makes_a_boundary():
    np.testing.assert_array_equal(scores(LEFT, columns(A, A, 255, B, B, B)), [1, 0, np.nan])


def test_ignored_pixels_are_no_neighbours():
    strip = columns(A, A, 255, 255, B, B)
    for prediction in (columns(A, A, A, B, B, B), columns(A, A, B, C, B, B), columns(A, A, 255, 255, B, B)):
        np.testing.assert_array_equal(scores(strip, prediction), [np.nan] * 3)


def test_what_an_ignored_pixel_may_match_is_not_judged():
    truth = columns(A, A, A, A, A, A, A, 255)
    prediction = columns(A, A, B, B, B, B, A, 255)  # A in column 1 is wrong; in column 6 a true one may be hidden
    np.testing.assert_array_equal(scores(truth, prediction, 1.0), [0, np.nan, np.nan])
    near = columns(A, A, A, A, A, A, B, 255)
    np.testing.assert_array_equal(scores(truth, near, 2.0), [np.nan, np.nan, np.nan])


def test_means_over_frames_and_classes():
    boundary = BoundaryScores(CAMVID, 1e-9)
    boundary.update(LEFT, LEFT)  # A 1, B 1
    boundary.update(LEFT, RIGHT)  # A 0, B 0
    boundary.update(columns(A, A, C, C, C, C), columns(A, A, C, C, C, B))  # A 1, C 2/3: precision 1/2, recall 1
    boundary.update(columns(A, A, 255, C), columns(A, A, B, C))  # nothing is judged
    np.testing.assert_allclose(boundary.class_f()[:4], [2 / 3, 1 / 2, 2 / 3, np.nan])
    assert boundary.frames == 3
    assert boundary.mean_f() == pytest.approx((1 + 0 + (1 + 2 / 3) / 2) / 3)


def test_nothing_scored_is_undefined():
    assert np.isnan(BoundaryScores(CAMVID).mean_f()) and np.isnan(BoundaryScores(CAMVID).class_f()).all()


def test_the_published_tolerance():
    assert TOLERANCE * np.hypot(360, 480) == 4.5


VALUES = st.sampled_from([0, 1, 2, 255])


@settings(max_examples=50, deadline=None)
@given(masks=arrays(np.uint8, (3, 5, 6), elements=VALUES))
def test_what_is_predicted_on_ignored_pixels_changes_nothing(masks):
    truth, prediction, other = masks
    np.testing.assert_array_equal(
        scores(truth, prediction, 1.0), scores(truth, np.where(truth == 255, other, prediction), 1.0)
    )
