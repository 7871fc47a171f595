"""How plain a region is, by hand."""

import numpy as np
import pytest

from training.annotations.purity import UNEVEN, cell_side, region_purity
from training.features.embedding import EmbeddedRegions
from training.features.lab import rgb_to_lab
from training.settings.method import EmbeddingSettings, PassSettings

SETTINGS = EmbeddingSettings(
    passes=(PassSettings(height=33, layers=("a",), weights=(1,)), PassSettings(height=65, layers=("b",), weights=(1,))),
    output_stride=32,
)


def halves(labels, cosine, shades):
    """A frame of two regions with the given cosine, and its picture of shades of grey."""
    labels = np.asarray(labels, np.int32)
    embedding = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], np.float32)
    return EmbeddedRegions(
        labels=labels,
        embedding=embedding,
        adjacent=np.array([[0, 1]], np.int32),
        contour=np.zeros(1, np.float32),
        band=np.full(2, 3, np.uint8),
        width=np.full(2, 0.5, np.float32),
        area=np.bincount(labels.ravel()),
    ), np.repeat(np.asarray(shades, np.uint8)[:, :, None], 3, axis=2)


def test_a_cell_of_the_finest_pass():
    assert cell_side(130, SETTINGS) == 32 * 130 / 65


def test_an_even_region_that_is_its_own_description_is_pure_and_an_uneven_one_less():
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 6, axis=0)
    shades = np.full((6, 6), 100)
    shades[:3, 3:] = 200  # half of region 1
    frame, image = halves(labels, 1, shades)
    low, high = (rgb_to_lab(np.full((1, 1, 3), shade, np.uint8))[0, 0, 0] for shade in (100, 200))
    expected = [1, np.sqrt(np.exp(-(high - low) / 2 / UNEVEN))]
    np.testing.assert_allclose(region_purity(frame, image, SETTINGS), expected, rtol=1e-3)


def test_the_rim_counts_as_far_as_what_it_touches_is_alike():
    # Half a cell of a frame of 12 rows is 2.95 pixels: of region 0, columns 0 to 4, the last 3 are that near.
    labels = np.repeat([[0] * 5 + [1] * 3], 12, axis=0)
    frame, image = halves(labels, 0.6, np.full((12, 8), 100))
    np.testing.assert_allclose(
        region_purity(frame, image, SETTINGS), [np.sqrt(1 - 3 / 5 * 0.4), np.sqrt(0.6)], rtol=1e-6
    )


def test_opposites_are_no_less_than_nothing():
    frame, image = halves(np.repeat([[0, 1]], 6, axis=0), -1, np.full((6, 2), 100))
    assert region_purity(frame, image, SETTINGS) == pytest.approx([0, 0])
