import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.pseudo_labels.representation import m_step, object_representation, scene_representation
from training.pseudo_labels.similarity import histogram_intersection
from training.settings import RepresentationSettings


def linear_program_optimum(members):
    """Maximise sum t_in subject to t_in <= x_in, t_in <= m_n, sum m = 1: eq (2)'s M-step as a linear program."""
    count, dimensions = members.shape
    size = count * dimensions
    cost = np.concatenate([-np.ones(size), np.zeros(dimensions)])
    below_centre = np.hstack([np.eye(size), -np.tile(np.eye(dimensions), (count, 1))])
    mass = np.concatenate([np.zeros(size), np.ones(dimensions)])[None]
    bounds = [(0, x) for x in members.ravel()] + [(0, None)] * dimensions
    return -linprog(cost, below_centre, np.zeros(size), mass, [1], bounds).fun


def test_m_step_of_one_member_is_the_member():
    member = np.array([[0.1, 0.2, 0.7]], np.float32)
    assert m_step(member) == pytest.approx(member[0])


def test_m_step_by_hand():
    # Sorted per dimension: (0, .2), (.4, .8), (0, .6). The lowest levels sum to .4; the upper to 1.6: half of the way.
    members = np.array([[0.2, 0.8, 0.0], [0.0, 0.4, 0.6]], np.float32)
    assert m_step(members) == pytest.approx([0.1, 0.6, 0.3])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.floats(0.1, 2))
def test_m_step_is_as_good_as_the_linear_program(seed, count, dimensions, concentration):
    members = np.random.default_rng(seed).dirichlet(np.full(dimensions, concentration), count)
    centre = m_step(members.astype(np.float32))
    assert centre.sum() == pytest.approx(1, abs=1e-5)
    assert centre.min() >= 0
    assert np.minimum(members, centre).sum() == pytest.approx(linear_program_optimum(members), abs=1e-4)


def test_an_object_is_described_by_the_most_similar_superpixels():
    semantic = np.array([[0.8, 0.2, 0, 0], [0.6, 0.4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    found = object_representation(make_features(4, semantic=semantic), 0, 7, RepresentationSettings(object_share=0.5))
    assert found.class_id == 7 and found.members == 2
    # Of superpixels 0 and 1: their levels sum to 0.8 and 1.2, so half of the way between.
    assert found.vectors == pytest.approx(np.array([[0.7, 0.3, 0, 0]]))


def test_a_scene_joins_its_neighbours_in_context_and_no_others():
    colour = np.tile(one_hot([0, 0, 0, 9], 32) / 3, (1, 3))
    edges = np.ones((4, 4), np.float32)
    edges[2, :2] = edges[:2, 2] = 0.2  # superpixel 2 lies behind an edge
    found = scene_representation(make_features(4, colour=colour, edge_similarity=edges), 0, 3, RepresentationSettings())
    # Superpixel 3 is a neighbour of another colour: a group of its own.
    assert found.members == 3
    assert found.vectors.shape == (2, 128)
    expected = np.concatenate([np.tile(one_hot([0, 9], 32) / 3, (1, 3)), one_hot([0, 0], 32)], axis=1) / 2
    assert found.vectors == pytest.approx(expected)


def test_a_scene_keeps_at_most_g_groups_and_always_the_annotated_one():
    colour = np.tile(one_hot([0, 5, 5, 9], 32) / 3, (1, 3))
    features = make_features(4, colour=colour)
    found = scene_representation(features, 3, 3, RepresentationSettings(scene_groups=2))
    similarity = histogram_intersection(np.concatenate([colour, features.texture], axis=1) / 2, found.vectors)
    assert found.members == 3
    assert similarity.max(axis=1) == pytest.approx([0.5, 1, 1, 1])
