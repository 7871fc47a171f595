"""The embedding of superpixels: the blocks and the linear map to the embedding."""

import numpy as np
import pytest

from serving.errors import InputError
from training.features.cam import load_classifier
from training.features.embedding import (
    EmbeddedRegions,
    EmbeddingBasis,
    LayerPasses,
    embedded_regions,
    pass_size,
)
from training.settings.method import CamSettings, EmbeddingSettings, PassSettings, SuperpixelSettings


def settings(**changes):
    passes = (
        PassSettings(height=65, layers=("features.14.conv.0", "features.17"), weights=(1, 0.5)),
        PassSettings(height=97, layers=("features.3",), weights=(2,)),
    )
    return EmbeddingSettings(**{"passes": passes, "dimensions": 8, **changes})


@pytest.fixture(scope="module")
def classifier():
    return load_classifier(CamSettings(weights="embedded"))


def frame_and_labels():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (40, 64, 3), np.uint8)
    labels = (np.arange(40)[:, None] // 10 * 4 + np.arange(64) // 16).astype(np.int32)
    return frame, labels


def test_sides_of_a_pass_are_32_k_plus_1_in_the_frames_shape():
    assert pass_size(360, 480, 353) == (353, 481)
    assert pass_size(1024, 2048, 705) == (705, 1409)
    assert pass_size(64, 8, 65) == (65, 33)


def test_blocks_are_the_layers_in_order_and_the_position(classifier):
    frame, labels = frame_and_labels()
    blocks = LayerPasses(classifier, settings()).describe(frame, labels, 16)
    modules = dict(classifier.named_modules())
    widths = [modules["features.14.conv.0"][0].out_channels, 160, modules["features.3"].conv[-2].out_channels, 2]
    assert [block.shape for block in blocks] == [(16, width) for width in widths]
    np.testing.assert_allclose(blocks[3][0], [5 / 40 / 0.29, (0.5 - 8 / 64) / 0.145], rtol=1e-6)
    np.testing.assert_allclose(blocks[3][0], blocks[3][3], rtol=1e-6)  # left and right are alike


def test_an_unknown_layer_is_named(classifier):
    passes = (PassSettings(height=65, layers=("features.99",), weights=(1,)),)
    with pytest.raises(InputError, match=r"embedding\.passes: MobileNetV2 has no layer 'features\.99'"):
        LayerPasses(classifier, settings(passes=passes))


def test_blocks_are_as_loud_as_their_weights():
    rng = np.random.default_rng(2)
    samples = [[rng.normal(size=(50, 6)) * scale for scale in (100, 1, 1e-3)] for _ in range(4)]
    samples = [[*blocks, rng.random((50, 2))] for blocks in samples]
    basis = EmbeddingBasis.fit(samples, settings(dimensions=20, position_weight=0.7))
    parts = np.split(basis.directions, np.cumsum([6, 6, 6]))
    blocks = [np.concatenate(block) for block in zip(*samples, strict=True)]
    energies = [
        np.square((block - block.mean(axis=0)) @ part).sum(axis=1).mean()
        for block, part in zip(blocks, parts, strict=True)
    ]
    np.testing.assert_allclose(energies, np.square([1, 0.5, 2, 0.7]), rtol=1e-4)


def test_the_embedding_has_length_1_and_its_basis_survives_the_disk(tmp_path):
    rng = np.random.default_rng(3)
    samples = [[rng.normal(size=(30, 5)).astype(np.float32) for _ in range(3)] + [rng.random((30, 2))]]
    basis = EmbeddingBasis.fit(samples, settings())
    basis.save(tmp_path / "basis.npz")
    embedded = EmbeddingBasis.load(tmp_path / "basis.npz").embed(samples[0])
    assert embedded.shape == (30, 8)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
    assert np.array_equal(embedded, basis.embed(samples[0]))


def test_regions_survive_the_disk(classifier, tmp_path):
    frame, labels = frame_and_labels()
    passes = LayerPasses(classifier, settings())
    basis = EmbeddingBasis.fit([passes.describe(frame, labels, 16)], settings())
    regions = embedded_regions(frame, passes, basis, SuperpixelSettings(method="felzenszwalb", minimum=60))
    regions.save(tmp_path / "regions.npz")
    loaded = EmbeddedRegions.load(tmp_path / "regions.npz")
    assert np.array_equal(loaded.labels, regions.labels)
    assert np.array_equal(loaded.adjacent, regions.adjacent)
    np.testing.assert_allclose(loaded.embedding, regions.embedding, atol=1e-3)
    assert regions.area.sum() == 40 * 64
