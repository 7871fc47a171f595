import numpy as np
import pytest
import torch
from torchvision import models

from training.features.cam import ClassActivation
from training.features.regions import RegionFeatures, region_features
from training.features.saliency.views import open_saliency
from training.settings.method import CamSettings, SaliencySettings, SuperpixelSettings


def describe(method):
    torch.manual_seed(0)
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    activation = ClassActivation(models.mobilenet_v2(width_mult=0.25, num_classes=7))
    settings = SuperpixelSettings(count=12), CamSettings(slice_height=33)
    return region_features(frame, activation, *settings, open_saliency(SaliencySettings(method=method)))


@pytest.fixture(scope="module")
def features():
    return describe("geodesic")


@pytest.mark.parametrize("method", ["geodesic", "drfi"])
def test_the_contract(method):
    features = describe(method)
    count = len(features.area)
    assert features.labels.shape == (48, 64) and features.labels.dtype == np.int32
    assert features.area.sum() == 48 * 64
    shapes = {"semantic": (count, 7), "colour": (count, 96), "texture": (count, 32), "saliency": (count, 3, 32)}
    for name, shape in shapes.items():
        values = getattr(features, name)
        assert values.dtype == np.float32 and values.shape == shape
        assert values.sum(axis=-1) == pytest.approx(np.ones(shape[:-1]), abs=1e-5)
    assert features.edge_similarity.shape == (count, count)
    assert set(np.unique(features.band)) <= {1, 2, 3, 4}


def test_without_saliency_there_are_no_views_of_it(tmp_path):
    features = describe("none")
    assert features.saliency.shape == (len(features.area), 0, 32)
    features.save(tmp_path / "frame.npz")
    assert RegionFeatures.load(tmp_path / "frame.npz").saliency.shape == features.saliency.shape


def test_save_and_load_keep_what_matters_and_leave_no_other_file(features, tmp_path):
    features.save(tmp_path / "frame.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["frame.npz"]
    loaded = RegionFeatures.load(tmp_path / "frame.npz")
    assert np.array_equal(loaded.labels, features.labels)
    assert np.array_equal(loaded.colour, features.colour)
    assert loaded.semantic == pytest.approx(features.semantic, abs=1e-3)
    assert loaded.semantic.dtype == np.float32
