import numpy as np
import pytest

from training.features.imaging import colour, texture

LABELS = np.repeat([[0, 1]], 8, axis=0).repeat(8, axis=1).astype(np.int32)


def test_colour_is_three_histograms_that_sum_to_one():
    lab = np.zeros((8, 16, 3), np.float32)
    lab[:, 8:] = (100, 19.9, -20)
    features = colour(lab, LABELS, 2)
    expected = np.zeros((2, 96))
    expected[0, [0, 32 + 16, 64 + 16]] = 1 / 3
    expected[1, [31, 32 + 31, 64 + 0]] = 1 / 3
    assert features == pytest.approx(expected)


def test_texture_is_a_distribution_that_ignores_the_light():
    random = np.random.default_rng(0).integers(0, 100, (8, 16)).astype(np.float32)
    lab = np.stack([random, random, random], axis=2)
    darker = lab / 2
    assert texture(lab, LABELS, 2).sum(axis=1) == pytest.approx([1, 1])
    assert np.minimum(texture(lab, LABELS, 2), texture(darker, LABELS, 2)).sum(axis=1).min() > 0.9


def test_texture_tells_stripes_from_a_plane():
    lab = np.full((8, 16, 3), 50, np.float32)
    lab[:, 8::2] = 70
    features = texture(lab, LABELS, 2)
    assert np.minimum(features[0], features[1]).sum() < 0.6
