import numpy as np
import pytest

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.pseudo_labels.representation import m_step, object_representation, scene_representation
from training.pseudo_labels.similarity import histogram_intersection
from training.settings.method import RepresentationSettings


def test_m_step_of_one_member_is_the_member():
    member = np.array([[0.1, 0.2, 0.7]], np.float32)
    assert m_step(member) == pytest.approx(member[0])


def test_m_step_by_hand():
    # Sorted per dimension: (0, .2), (.4, .8), (0, .6). The lowest levels sum to .4; the upper to 1.6: half of the way.
    members = np.array([[0.2, 0.8, 0.0], [0.0, 0.4, 0.6]], np.float32)
    assert m_step(members) == pytest.approx([0.1, 0.6, 0.3])


def test_an_object_is_described_by_the_most_similar_superpixels():
    semantic = np.array([[0.8, 0.2, 0, 0], [0.6, 0.4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    found = object_representation(make_features(4, semantic=semantic), 0, 7, RepresentationSettings(object_share=0.5))
    assert found.class_id == 7 and found.members == 2
    # Of superpixels 0 and 1: their levels sum to 0.8 and 1.2, so half of the way between.
    assert found.vectors == pytest.approx(np.array([[0.7, 0.3, 0, 0]]))
    # Sim(X0, M) = 0.7 + 0.2 and Sim(X1, M) = 0.6 + 0.3; then the set stands still.
    assert found.objective == pytest.approx((1.8,))


def test_an_objects_set_moves_with_its_centre_until_it_stands_still():
    # From superpixel 0 the nearest two are 0 and 1; their optimum is nearer to 2 and 3 than to 0.
    semantic = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.7, 0.2], [0, 0.8, 0.2], [0, 0.8, 0.2]], np.float32)
    found = object_representation(make_features(5, semantic=semantic), 0, 7, RepresentationSettings(object_share=0.6))
    assert len(found.objective) > 1
    assert all(before < after for before, after in zip(found.objective, found.objective[1:], strict=False))


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


def test_of_equal_groups_the_one_nearer_in_context_stays():
    edges = np.ones((4, 4), np.float32)
    edges[3, :3] = edges[:3, 3] = 0.6, 0.9, 0.7
    features = make_features(4, colour=np.tile(one_hot([0, 5, 9, 20], 32) / 3, (1, 3)), edge_similarity=edges)
    found = scene_representation(features, 3, 3, RepresentationSettings(scene_groups=2))
    assert found.vectors[:, :32].argmax(axis=1).tolist() == [20, 5]
