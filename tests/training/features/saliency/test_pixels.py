import numpy as np
import pytest

from training.features.saliency.pixels import (
    CHANNELS,
    FILTERS,
    HISTOGRAMS,
    filter_bank,
    local_binary_patterns,
    pixel_features,
)


def channel(features, name):
    return features.values[CHANNELS.index(name)]


def test_channels_and_bins_of_plain_colours():
    frame = np.zeros((4, 6, 3), np.uint8)
    frame[:, 3:] = (255, 0, 0)
    features = pixel_features(frame)
    assert features.values.shape == (25, 4, 6) and features.values.dtype == np.float32
    assert features.bins.shape == (5, 4, 6)
    red = {
        "red": 1,
        "green": 0,
        "blue": 0,
        "lightness": 0.5324,
        "a": 0.8162,
        "b": 0.7655,
        "hue": 0,
        "saturation": 1,
        "value": 1,
    }
    for name, value in red.items():
        assert channel(features, name)[0, 5] == pytest.approx(value, abs=2e-3), name
    assert channel(features, "lightness")[0, 0] == 0
    assert (features.bins[0, :, :3] == 0).all() and (features.bins[0, :, 3:] == 7 * 32).all()  # 8 x 8 x 4 bins of RGB
    for bins, size in zip(features.bins, HISTOGRAMS.values(), strict=True):
        assert bins.min() >= 0 and bins.max() < size


def test_there_are_15_filters_and_all_but_the_gaussian_ignore_a_plane():
    bank = filter_bank()
    assert bank.shape == (15, 19, 19) and len(FILTERS) == 15
    assert np.abs(bank).sum(axis=(1, 2)) == pytest.approx(np.ones(15), abs=1e-5)
    sums = bank.sum(axis=(1, 2))
    assert sums[FILTERS.index("gaussian")] == pytest.approx(1, abs=1e-5)
    assert np.delete(sums, FILTERS.index("gaussian")) == pytest.approx(np.zeros(14), abs=1e-5)
    responses = pixel_features(np.full((9, 9, 3), 77, np.uint8)).values[9:24, 4, 4]
    assert np.delete(responses, FILTERS.index("gaussian")) == pytest.approx(np.zeros(14), abs=1e-5)


def test_an_edge_answers_to_the_filter_along_it():
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[20:] = 255
    responses = pixel_features(frame).values[9:24, 19:21, 20].mean(axis=1)
    edges = responses[:6]
    assert edges.argmax() == 0 and edges[0] > 3 * edges[3]  # 0 degrees runs along the row, 90 across it


def test_patterns_by_hand():
    grey = np.zeros((3, 3), np.float32)
    grey[0, 0] = grey[1, 2] = 1  # top left, bit 0, and right, bit 3
    grey[1, 1] = 0.5
    assert local_binary_patterns(grey)[1, 1] == 0b1001
    assert (local_binary_patterns(np.ones((2, 2), np.float32)) == 255).all()
