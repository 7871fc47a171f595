import numpy as np
import pytest

from training.features.saliency import saliency, saliency_map


def test_an_enclosed_region_is_as_salient_as_the_way_to_the_border_is_long():
    # 0 is the border, 1 differs from it by 10 in lightness, 2 lies inside 1 and differs by 30 from it.
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 1
    labels[3, 3] = 2
    lab = np.zeros((7, 7, 3), np.float32)
    lab[labels == 1, 0] = 10
    lab[labels == 2, 0] = 40
    values = saliency_map(lab, labels, 1, 1)
    assert values[0, 0] == 0
    assert values[1, 1] == pytest.approx(0.25, abs=1e-5)
    assert values[3, 3] == 1


def test_tiles_do_not_see_each_other():
    labels = np.arange(36, dtype=np.int32).reshape(6, 6)
    lab = np.random.default_rng(0).random((6, 6, 3)).astype(np.float32)
    changed = lab.copy()
    changed[3:] += 50
    assert np.array_equal(saliency_map(lab, labels, 2, 2)[:3], saliency_map(changed, labels, 2, 2)[:3])


def test_features_are_distributions_in_three_views():
    labels = (np.indices((12, 12)).sum(axis=0) // 4).astype(np.int32)
    count = labels.max() + 1
    features = saliency(np.random.default_rng(1).random((12, 12, 3)).astype(np.float32) * 50, labels, count)
    assert features.shape == (count, 3, 32)
    assert features.sum(axis=2) == pytest.approx(np.ones((count, 3)))
