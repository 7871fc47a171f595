import numpy as np

from training.features.saliency.background import robust_background_map


def test_what_differs_and_does_not_reach_the_border_is_salient():
    rows, columns = np.indices((40, 40)) // 5
    labels = (rows * 8 + columns).astype(np.int32)
    lab = np.full((40, 40, 3), 30, np.float32)
    lab[..., 0] += (labels % 3)[..., None][..., 0]
    lab[15:25, 15:25, 1] += 60
    lab[15:25, :10, 1] -= 60  # differs as much, but lies on the border
    values = robust_background_map(lab, labels, 64)
    assert values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1
    inside = values[15:25, 15:25].min()
    assert inside > 0.5
    assert values[:10].max() < inside / 3
    assert values[15:25, :10].max() < inside / 2


def test_a_plain_frame_has_a_map_without_anything_undefined():
    labels = (np.indices((8, 8)).sum(axis=0) // 4).astype(np.int32)
    values = robust_background_map(np.zeros((8, 8, 3), np.float32), labels, int(labels.max()) + 1)
    assert np.isfinite(values).all()
