import numpy as np
import pytest

from training.features.saliency.geodesic import border_regions, geodesic_map, mean_colours, neighbours


def test_an_enclosed_region_is_as_salient_as_the_way_to_the_border_is_long():
    # 0 is the border, 1 differs from it by 10 in lightness, 2 lies inside 1 and differs by 30 from it.
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 1
    labels[3, 3] = 2
    lab = np.zeros((7, 7, 3), np.float32)
    lab[labels == 1, 0] = 10
    lab[labels == 2, 0] = 40
    values = geodesic_map(lab, labels, 1, 1)
    assert values[0, 0] == 0
    assert values[1, 1] == pytest.approx(0.25, abs=1e-5)
    assert values[3, 3] == 1


def test_tiles_do_not_see_each_other():
    labels = np.arange(36, dtype=np.int32).reshape(6, 6)
    lab = np.random.default_rng(0).random((6, 6, 3)).astype(np.float32)
    changed = lab.copy()
    changed[3:] += 50
    assert np.array_equal(geodesic_map(lab, labels, 2, 2)[:3], geodesic_map(changed, labels, 2, 2)[:3])


def test_neighbours_border_and_mean_colours_by_hand():
    labels = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 3, 3]])
    assert neighbours(labels).T.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert border_regions(labels).tolist() == [0, 1, 3]
    lab = np.zeros((3, 4, 3))
    lab[1, 1], lab[1, 2] = (10, 2, 0), (30, 0, 4)
    assert mean_colours(lab, labels, 4)[2].tolist() == [20, 1, 2]
