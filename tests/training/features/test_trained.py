import numpy as np
import pytest
import torch
from torchvision.models import MobileNetV2

from training.datasets.streets import Streets
from training.features.embedding import EmbeddedRegions
from training.features.trained import TrainedRegions, joined
from training.segmentation.networks import DeepLabMobileNetV2
from training.settings import IterationSettings

STREETS = Streets("train", size=(48, 64), train_frames=4)


def test_the_cosine_of_joined_embeddings_is_the_weighted_mean_of_both():
    first = np.array([[1, 0], [0.6, 0.8]], np.float32)
    second = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    both = joined(first, second, 3.0)
    assert both.shape == (2, 5) and np.linalg.norm(both, axis=1) == pytest.approx([1, 1])
    assert both[0] @ both[1] == pytest.approx((0.6 + 3 * 0) / 4)


def regions(value):
    """Four quarters of a frame."""
    labels = np.kron(np.array([[0, 1], [2, 3]], np.int32), np.ones((24, 32), np.int32))
    return EmbeddedRegions(
        labels=labels,
        embedding=np.eye(4, dtype=np.float32)[np.full(4, value)],
        adjacent=np.array([[0, 1]], np.int32),
        contour=np.array([0.5], np.float32),
        band=np.array([1, 1, 3, 3], np.uint8),
        area=np.full(4, 24 * 32),
    )


@pytest.fixture
def trained(tmp_path):
    for value, frame_id in enumerate(STREETS.frame_ids):
        regions(value).save(tmp_path / "features" / f"{frame_id}.npz")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), 3, aspp_rates=(1,))
    settings = IterationSettings(pass_height=65, dimensions=3, weight=2.0)
    return TrainedRegions(network, STREETS, tmp_path / "features", tmp_path / "trained", settings)


def test_a_network_joins_what_it_sees(trained, tmp_path):
    trained.write(STREETS.frame_ids)
    for value, frame_id in enumerate(STREETS.frame_ids):
        found, plain = trained.load(frame_id), regions(value)
        assert found.embedding.shape == (4, 4 + 3)
        np.testing.assert_allclose(found.embedding[:, :4], plain.embedding * np.sqrt(1 / 3), atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-3)
        assert np.array_equal(found.labels, plain.labels) and np.array_equal(found.contour, plain.contour)


def test_what_is_written_stays(trained, tmp_path):
    trained.write(STREETS.frame_ids)
    files = {path: path.read_bytes() for path in (tmp_path / "trained").iterdir()}
    (tmp_path / "trained" / f"{STREETS.frame_ids[1]}.npy").unlink()
    times = {path: path.stat().st_mtime_ns for path in files if path.exists()}
    trained.write(STREETS.frame_ids)
    assert {path: path.read_bytes() for path in (tmp_path / "trained").iterdir()} == files
    assert all(path.stat().st_mtime_ns == written for path, written in times.items())
