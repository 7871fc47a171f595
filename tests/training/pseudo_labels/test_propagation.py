"""Scores spread over a graph: its edges, Poisson's equation, new frames."""

import faiss
import numpy as np
import pytest
from scipy import sparse

from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.propagation import (
    LEAK,
    GraphRegions,
    NeighbourIndex,
    Propagation,
    class_handicap,
    poisson_learning,
    region_graph,
)
from training.settings.method import PropagationSettings, PseudoLabelSettings
from training.taxonomy import ClassInfo, Taxonomy

TAXONOMY = Taxonomy(
    "test",
    tuple(
        ClassInfo(name=name, colour=(0, 0, 0), category=name, kind=kind, bands=(1, 2, 3, 4))
        for name, kind in (("road", "scene"), ("car", "object"), ("sign", "object"))
    ),
)
EXACT = PropagationSettings(tolerance=1e-6, most_iterations=1000)


def frame(embedding, adjacent=(), contour=()):
    embedding = np.asarray(embedding, np.float32)
    embedding = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    count = len(embedding)
    return EmbeddedRegions(
        labels=np.arange(count, dtype=np.int32)[None],
        embedding=embedding,
        adjacent=np.asarray(adjacent, np.int32).reshape(-1, 2),
        contour=np.asarray(contour, np.float32),
        band=np.full(count, 3, np.uint8),
        width=np.full(count, 1 / count, np.float32),
        area=np.ones(count, np.int64),
    )


def clusters(rng, count=20, spread=0.15):
    """Regions of one frame around three directions, `count` each."""
    return frame(np.repeat(np.eye(3), count, axis=0) + spread * rng.normal(size=(3 * count, 3)))


def solve(frames, seeds, settings):
    return Propagation.solve(frames, seeds, TAXONOMY, settings, PseudoLabelSettings())


def test_the_index_finds_the_true_neighbours_where_it_searches_all_cells():
    embedding = clusters(np.random.default_rng(0), 300).embedding
    index = NeighbourIndex(embedding, PropagationSettings(probes=100))
    similarity, number = index.search(embedding[:10], 5)
    expected = np.sort(embedding[:10] @ embedding.T, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    assert number[:, 0].tolist() == list(range(10))


def test_edges_of_three_regions_by_hand():
    first, second = frame([[1, 0], [0.8, 0.6]], [(0, 1)], [0.1]), frame([[0, 1]])
    settings = PropagationSettings(neighbours=2, similarity_power=1, contour_weight=0.5, contour_scale=0.1)
    weights = region_graph(GraphRegions.of([first, second]), settings).toarray()
    within = 0.8 + 0.5 * np.exp(-1)
    np.testing.assert_allclose(weights, [[0, within, 0], [within, 0, 0.6], [0, 0.6, 0]], atol=1e-6)


def test_the_graph_is_symmetric_and_has_no_loops():
    rng = np.random.default_rng(1)
    weights = region_graph(GraphRegions.of([clusters(rng), clusters(rng)]), PropagationSettings(neighbours=7))
    assert abs(weights - weights.T).max() == 0
    assert weights.diagonal().max() == 0 and weights.min() >= 0


def test_scores_solve_poissons_equation():
    rng = np.random.default_rng(2)
    dense = rng.random((12, 12)) * (rng.random((12, 12)) < 0.6)
    dense = np.triu(dense, 1) + np.triu(dense, 1).T
    seeds = np.array([3, 7, 3])
    scores = poisson_learning(sparse.csr_array(dense.astype(np.float32)), seeds, EXACT)
    source = np.zeros((12, 3))
    for class_id, seed in enumerate(seeds):
        source[seed, class_id] += 1
        source[seed] -= 1 / 3
    laplacian = np.diag(dense.sum(axis=1)) - dense
    expected = np.linalg.solve(laplacian + LEAK * np.diag(dense.sum(axis=1)), source)
    np.testing.assert_allclose(scores, expected / expected.std(), atol=1e-3)


def test_each_cluster_takes_the_class_of_its_seed_and_a_new_frame_follows():
    rng = np.random.default_rng(3)
    frames = {"one": clusters(rng), "two": clusters(rng)}
    graph = solve(frames, [("one", 5), ("one", 25), ("two", 45)], PropagationSettings(neighbours=6))
    expected = np.repeat([0, 1, 2], 20)
    assert np.array_equal(graph.scores_of("one", frames["one"]).argmax(axis=1), expected)
    assert np.array_equal(graph.scores_of("two", frames["two"]).argmax(axis=1), expected)
    assert np.array_equal(graph.scores_of("new", clusters(rng)).argmax(axis=1), expected)


def test_a_region_like_one_of_the_graph_has_its_neighbours_mean_and_an_unlike_one_its_touching_neighbours():
    old = frame([[1, 0, 0], [0, 1, 0]])
    settings = PropagationSettings(neighbours=2, similarity_power=1, contour_weight=1)
    scores = np.eye(2, dtype=np.float32)
    graph = Propagation(("old",), np.array([0, 2]), old.embedding, scores, np.zeros(2, np.float32), settings)
    new = frame([[0.6, 0.8, 0], [0, 0, 1]], [(0, 1)], [0])
    # Region 1 has no similar region, so it takes region 0's scores; so region 0 stays at the mean of its own two.
    np.testing.assert_allclose(graph.attach(new), np.tile([0.6 / 1.4, 0.8 / 1.4], (2, 1)), atol=5e-4)


def test_a_solved_graph_survives_the_disk(tmp_path):
    rng = np.random.default_rng(4)
    frames = {"one": clusters(rng)}
    settings = PropagationSettings(neighbours=6)
    graph = solve(frames, [("one", 5), ("one", 25), ("one", 45)], settings)
    graph.save(tmp_path / "graph.npz")
    loaded = Propagation.load(tmp_path / "graph.npz", settings)
    new = clusters(rng)
    assert np.array_equal(loaded.scores_of("one", frames["one"]), graph.scores_of("one", frames["one"]))
    np.testing.assert_allclose(loaded.attach(new), graph.attach(new), atol=0.02)


def test_twice_the_same_bits():
    frames = {"one": clusters(np.random.default_rng(5), 200), "two": clusters(np.random.default_rng(6), 200)}
    seeds = [("one", 5), ("one", 205), ("two", 405)]
    first, second = (solve(frames, seeds, PropagationSettings()) for _ in range(2))
    assert np.array_equal(first.scores, second.scores)


def test_scores_that_do_not_stand_are_told():
    weights = sparse.diags_array([np.ones(29), np.ones(29)], offsets=[1, -1], format="csr").astype(np.float32)
    with pytest.warns(UserWarning, match="most_iterations = 2: their residual is .* times propagation.tolerance"):
        poisson_learning(weights, np.array([0, 29]), PropagationSettings(most_iterations=2))


def test_a_part_of_the_graph_without_an_annotated_region_scores_nothing():
    weights = sparse.block_diag([np.ones((3, 3)) - np.eye(3)] * 2, format="csr").astype(np.float32)
    scores = poisson_learning(sparse.csr_array(weights), np.array([0, 1]), EXACT)
    assert scores[:3].any() and not scores[3:].any()


def test_objects_bear_the_margin_and_are_held_to_their_share():
    # The car leads the road by 0.5, 0.6, ... on ten regions of equal area; the sign by nothing anywhere.
    scores = np.zeros((10, 3), np.float32)
    scores[:, 1] = np.linspace(0.5, 1.4, 10)
    arguments = (scores, np.ones((10, 3), bool), np.full(10, 7), TAXONOMY)
    assert class_handicap(*arguments, PropagationSettings(object_margin=0.4)).tolist() == pytest.approx([0, 0.4, 0.4])
    held = class_handicap(*arguments, PropagationSettings(object_margin=0.4, most_object_area=0.3))
    assert ((scores - held).argmax(axis=1) == 1).sum() == 3
    assert held[[0, 2]].tolist() == pytest.approx([0, 0.4])


def test_regions_unlike_the_graph_stay_finite():
    old = frame([[1, 0, 0], [0, 1, 0]])
    graph = Propagation(
        ("old",), np.array([0, 2]), old.embedding, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), EXACT
    )
    assert not graph.attach(frame([[0, 0, 1], [0, 0, 1]], [(0, 1)], [0])).any()


def test_building_a_graph_leaves_the_threads_of_others():
    before = faiss.omp_get_max_threads()
    NeighbourIndex(frame(np.eye(3)).embedding, EXACT)
    assert faiss.omp_get_max_threads() == before
