import numpy as np
import pytest

from serving.errors import InputError
from training.features.saliency.views import open_saliency, saliency
from training.settings.method import SaliencySettings

LABELS = (np.indices((12, 12)).sum(axis=0) // 4).astype(np.int32)
FRAME = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
LAB = FRAME.astype(np.float32) / 5


@pytest.mark.parametrize(("method", "views"), [("none", 0), ("geodesic", 3), ("drfi", 3)])
def test_features_are_distributions_in_the_methods_views(method, views):
    count = int(LABELS.max()) + 1
    features = saliency(FRAME, LAB, LABELS, count, open_saliency(SaliencySettings(method=method)))
    assert features.shape == (count, views, 32) and features.dtype == np.float32
    assert features.sum(axis=2) == pytest.approx(np.ones((count, views)))


def test_a_map_becomes_its_superpixels_distribution():
    halves = np.repeat([[0, 1]], 40, axis=0).repeat(20, axis=1).astype(np.int32)
    view = np.where(halves == 1, np.float32(1), np.float32(0))
    features = saliency(FRAME, LAB, halves, 2, lambda *_: [view])
    assert features[0, 0].argmax() == 0 and features[1, 0].argmax() == 31
    assert np.minimum(features[0], features[1]).sum() < 0.2


def test_a_wrong_forest_is_told_when_it_is_opened(tmp_path):
    with pytest.raises(InputError, match=r"saliency\.forest: .*absent\.onnx cannot be read"):
        open_saliency(SaliencySettings(method="drfi", forest=str(tmp_path / "absent.onnx")))
