import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.features.edges import edge_map, edge_similarity

COLUMNS = np.repeat(np.arange(3), 4)[None].repeat(6, axis=0).astype(np.int32)


def test_the_strongest_edge_on_the_way_counts():
    edges = np.zeros((6, 12), np.float32)
    edges[:, 4] = 0.25
    edges[:, 8] = 0.75
    similarity = edge_similarity(edges, COLUMNS, 3)
    assert similarity == pytest.approx(np.array([[1, 0.75, 0.25], [0.75, 1, 0.25], [0.25, 0.25, 1]]))


def test_an_edge_beside_the_way_does_not_count():
    labels = np.repeat(np.arange(2), 6)[None].repeat(12, axis=0).astype(np.int32)
    edges = np.zeros((12, 12), np.float32)
    edges[:3] = edges[9:] = 1
    assert edge_similarity(edges, labels, 2)[0, 1] == 1


def test_no_thin_edge_is_missed_on_a_large_frame():
    edges = np.zeros((300, 900), np.float32)
    edges[:, 451] = 0.5
    labels = (np.indices((300, 900))[1] // 90).astype(np.int32)
    similarity = edge_similarity(edges, labels, 10)
    assert (similarity[:5, 6:] == 0.5).all()
    assert (similarity[:5, :5] == 1).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_symmetric_bounded_and_one_on_the_diagonal(seed):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(80) % 7).reshape(8, 10).astype(np.int32)
    similarity = edge_similarity(random.random((8, 10), np.float32), labels, 7)
    assert np.array_equal(similarity, similarity.T)
    assert (np.diag(similarity) == 1).all()
    assert similarity.min() >= 0 and similarity.max() <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_does_not_depend_on_the_superpixels_numbers(seed):
    random = np.random.default_rng(seed)
    labels = np.kron(np.arange(12).reshape(3, 4), np.ones((5, 6), int)).astype(np.int32)
    labels[random.random(labels.shape) < 0.2] = 3
    edges = random.random(labels.shape, np.float32).round(1)
    number = random.permutation(12)
    renumbered = edge_similarity(edges, number[labels].astype(np.int32), 12)
    assert np.array_equal(renumbered[np.ix_(number, number)], edge_similarity(edges, labels, 12))


def test_a_long_way_that_ends_early_at_a_full_edge_counts_no_less():
    edges = np.zeros((4, 150), np.float32)
    edges[:, 20] = 1
    edges[:, 140] = 0.5
    labels = (np.indices(edges.shape)[1] // 10).astype(np.int32)
    similarity = edge_similarity(edges, labels, 15)
    assert similarity[0, 13:].tolist() == [0, 0] and similarity[3, 14] == 0.5 and similarity[3, 12] == 1


def test_edge_map_is_strong_at_a_step_and_zero_on_a_plane():
    lab = np.zeros((20, 20, 3), np.float32)
    lab[:, 10:] = 80
    edges = edge_map(lab)
    assert edges[:, 9:11].min() > 0.9
    assert edges[:, :5].max() < 0.01 and edges[:, 15:].max() < 0.01
