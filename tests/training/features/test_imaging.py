import numpy as np
import pytest
from skimage.feature import local_binary_pattern

from training.features.imaging import colour, texture, uniform_patterns

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


def test_patterns_of_a_plane_a_point_and_an_edge():
    image = np.full((9, 9), 100, np.uint8)
    assert (uniform_patterns(image) == 30).all()  # every neighbour is as light as the pixel
    point = image.copy()
    point[4, 4] = 101
    assert uniform_patterns(point)[4, 4] == 0
    edge = image.copy()
    edge[:, :4] = 0
    # Left of the edge stand the neighbours at angles beyond a quarter circle, those with a column of -1/16 or less.
    assert uniform_patterns(edge)[4, 4] == 15


def test_patterns_do_not_turn_with_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    patterns = uniform_patterns(image)
    assert np.array_equal(uniform_patterns(image[::-1])[::-1], patterns)
    assert np.array_equal(uniform_patterns(image[::-1, ::-1])[::-1, ::-1], patterns)


def test_patterns_are_those_of_the_definition_but_for_neighbours_that_tie_within_a_sixteenth_of_a_pixel():
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (200, 40), np.uint8)  # higher than a strip
    expected = local_binary_pattern(image, P=30, R=3, method="uniform")
    inside = np.s_[4:-4, 4:-4]
    assert (uniform_patterns(image) == expected)[inside].mean() > 0.97
