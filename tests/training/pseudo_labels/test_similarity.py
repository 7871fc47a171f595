import numpy as np
import pytest

from tests.training.pseudo_labels.regions import make_features
from training.pseudo_labels.similarity import context_similarity, histogram_intersection, imaging_features


def test_equation_1_by_hand():
    first = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], np.float32)
    second = np.array([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9]], np.float32)
    assert histogram_intersection(first, second) == pytest.approx(np.array([[1.0, 0.1], [0.5, 0.6]]))


def test_equation_3_by_hand():
    saliency = np.zeros((2, 3, 32), np.float32)
    saliency[0, :, 0] = 1
    saliency[1, 0, [0, 1]] = 0.5  # global: intersection 0.5
    saliency[1, 1, 5] = 1  # first cropping: 0
    saliency[1, 2, [0, 7]] = 0.8, 0.2  # second cropping: 0.8
    features = make_features(saliency=saliency, edge_similarity=np.array([[1, 0.25], [0.25, 1]], np.float32))
    assert context_similarity(features) == pytest.approx(np.array([[1, 0.1], [0.1, 1]]))
    assert context_similarity(features, edge_scale=0.5)[0, 1] == pytest.approx(np.exp(-1.5) * 0.4)


def test_equation_3_without_saliency_is_the_edges_alone():
    edges = np.array([[1, 0.25], [0.25, 1]], np.float32)
    features = make_features(saliency=np.zeros((2, 0, 32), np.float32), edge_similarity=edges)
    assert np.array_equal(context_similarity(features), edges)
    assert context_similarity(features, edge_scale=0.5)[0, 1] == pytest.approx(np.exp(-1.5))


def test_imaging_features_sum_to_one():
    features = make_features()
    assert imaging_features(features).shape == (2, 128)
    assert imaging_features(features).sum(axis=1) == pytest.approx([1, 1])
