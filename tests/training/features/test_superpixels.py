import numpy as np
import pytest

from training.features import superpixels as module
from training.features.superpixels import bands, centroids, pixel_membership, region_histograms, superpixels, widths
from training.settings.method import SuperpixelSettings

LABELS = np.array([[0, 0, 1], [0, 2, 1], [2, 2, 1], [2, 2, 1]], np.int32)


def test_superpixels_follow_a_colour_edge():
    frame = np.zeros((24, 24, 3), np.uint8)
    frame[:, 11:] = (250, 40, 40)
    labels = superpixels(frame, SuperpixelSettings(count=8))
    assert labels.dtype == np.int32
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert not set(np.unique(labels[:, :11])) & set(np.unique(labels[:, 11:]))


def test_membership_averages():
    values = np.arange(12, dtype=np.float32)
    means = pixel_membership(LABELS, 3) @ values
    assert means == pytest.approx([(0 + 1 + 3) / 3, (2 + 5 + 8 + 11) / 4, (4 + 6 + 7 + 9 + 10) / 5])


def test_histograms_are_shares_and_the_last_bin_is_closed():
    values = np.array([[0, 0.49, 1], [0.5, 0.2, 1], [0.2, 0.9, 1], [0.9, 0.9, 0.5]])
    histograms = region_histograms(values, LABELS, 3, bins=2)
    assert histograms == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1], [2 / 5, 3 / 5]]))


def test_centroids_and_bands():
    assert centroids(LABELS, 3) == pytest.approx(np.array([[1 / 3, 1 / 3], [1.5, 2], [11 / 5, 3 / 5]]))
    rows = np.repeat(np.arange(8, dtype=np.int32), 2).reshape(8, 2)
    assert bands(rows, 8).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_widths_are_shares_of_the_frames():
    labels = np.array([[0, 0, 1, 2], [0, 1, 1, 2], [3, 3, 3, 3]], np.int32)
    assert widths(labels, 4).tolist() == [0.5, 0.5, 0.25, 1]


def test_a_large_frame_is_cut_tile_by_tile(monkeypatch):
    settings = SuperpixelSettings(method="felzenszwalb", minimum=5)
    frame = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    whole = superpixels(frame, settings)
    monkeypatch.setattr(module, "TILE", 25)
    tiled = superpixels(frame, settings)
    assert tiled.dtype == np.int32 and np.array_equal(np.unique(tiled), np.arange(tiled.max() + 1))
    assert np.array_equal(tiled[:15, :25], superpixels(frame[:15, :25], settings))
    quarters = [set(np.unique(part)) for half in np.vsplit(tiled, 2) for part in np.hsplit(half, 2)]
    assert sum(map(len, quarters)) == tiled.max() + 1  # no superpixel crosses a seam
    monkeypatch.setattr(module, "TILE", 50)
    assert np.array_equal(superpixels(frame, settings), whole)
