import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.features.saliency.pixels import pixel_features
from training.features.saliency.segmentation import coarser, fine_segmentation, region_graph
from training.features.saliency.statistics import region_statistics

LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 3, 3]], np.int32)


def edges(graph):
    return dict(zip(zip(graph.first.tolist(), graph.second.tolist(), strict=True), graph.length.tolist(), strict=True))


def stripes(*greys):
    """A frame of one column per grey, 4 pixels wide and high, and its regions."""
    frame = np.repeat(np.array(greys, np.uint8), 4)[None, :, None].repeat(4, axis=0).repeat(3, axis=2)
    labels = np.repeat(np.arange(len(greys), dtype=np.int32), 4)[None].repeat(4, axis=0)
    return region_statistics(pixel_features(frame), labels, len(greys)), region_graph(labels, len(greys))


def test_graph_by_hand():
    graph = region_graph(LABELS, 4)
    assert edges(graph) == {(0, 1): 1, (0, 2): 2, (0, 3): 1, (1, 2): 2, (1, 3): 1, (2, 3): 2}
    assert graph.border.tolist() == [4, 4, 0, 6]


def test_unions_keep_the_outline_alone():
    graph = region_graph(LABELS, 4).merged(np.array([0, 1, 0, 1], np.int32), 2)
    assert edges(graph) == {(0, 1): 1 + 1 + 2 + 2}
    assert graph.border.tolist() == [4, 10]


def test_a_seam_is_a_border():
    graph = region_graph(LABELS, 4).cut(np.array([0, 0, 0, 1], np.int32))
    assert edges(graph) == {(0, 1): 1, (0, 2): 2, (1, 2): 2}
    assert graph.border.tolist() == [5, 5, 2, 10]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_unions_graph_is_that_of_its_label_image(seed):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(42) % 6).reshape(6, 7).astype(np.int32)
    union = random.permutation(np.arange(6) % 3).astype(np.int32)
    merged, direct = region_graph(labels, 6).merged(union, 3), region_graph(union[labels], 3)
    assert edges(merged) == edges(direct)
    assert np.array_equal(merged.border, direct.border)


def test_what_is_alike_is_merged_first():
    regions, graph = stripes(0, 10, 200, 220)
    union, count = coarser(regions, graph, np.zeros(4, np.int32), 3)
    assert count == 3 and union[0] == union[1] and len({*union[1:].tolist()}) == 3
    union, count = coarser(regions, graph, np.zeros(4, np.int32), 2)
    assert count == 2 and union.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_each_tile_keeps_its_own_number():
    regions, graph = stripes(0, 10, 20, 200, 210)
    tile = np.array([0, 0, 0, 1, 1], np.int32)
    union, count = coarser(regions, graph.cut(tile), tile, 2)
    assert count == 4
    assert union[3] != union[4]
    assert len({*union[:3].tolist()}) == 2 and not {*union[:3].tolist()} & {*union[3:].tolist()}
    assert coarser(regions, graph.cut(tile), tile, 5)[1] == 5


def test_one_region_stays_one():
    regions, graph = stripes(7)
    assert coarser(regions, graph, np.zeros(1, np.int32), 1)[1] == 1


def test_the_fine_segmentation_follows_a_strong_edge():
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[:, 10:] = 255
    labels = fine_segmentation(frame, scale=100, sigma=0.1, minimum_size=20)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, np.repeat([[0, 1]], 20, axis=0).repeat(10, axis=1))
    assert labels[0, 0] == pytest.approx(0)
