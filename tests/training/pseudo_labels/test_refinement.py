import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.pseudo_labels.refinement import allowed_classes, refine
from training.taxonomy import CAMVID


def test_equation_4_by_hand():
    scores = np.array([[1, 0], [0, 0.5]], np.float32)
    context = np.array([[1, 0.25], [0.25, 1]], np.float32)
    assert refine(scores, context) == pytest.approx(np.array([[0.8, 0.1], [0.2, 0.4]]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_equation_4_is_a_convex_combination_that_follows_the_order_of_superpixels(seed, count):
    random = np.random.default_rng(seed)
    scores = random.random((count, 3), np.float32)
    half = random.random((count, count), np.float32)
    context = (half + half.T) / 2
    np.fill_diagonal(context, 1)
    refined = refine(scores, context)
    assert (refined >= scores.min(axis=0) - 1e-5).all() and (refined <= scores.max(axis=0) + 1e-5).all()
    order = random.permutation(count)
    assert refine(scores[order], context[np.ix_(order, order)]) == pytest.approx(refined[order], abs=1e-5)


def test_bands_of_camvid():
    allowed = allowed_classes(np.array([1, 2, 3, 4], np.uint8), CAMVID)
    names = [[name for name, here in zip(CAMVID.names, row, strict=True) if here] for row in allowed]
    assert names[0] == ["Sky", "Building", "Tree", "SignSymbol"]
    assert names[3] == ["Pole", "Road", "Sidewalk", "Fence", "Car", "Pedestrian", "Bicyclist"]
    assert "Sky" in names[1] and "Sky" not in names[2]
