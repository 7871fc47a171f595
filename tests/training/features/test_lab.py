import numpy as np
import pytest
from skimage.color import rgb2lab

from training.features.lab import rgb_to_lab


def test_known_colours():
    frame = np.array([[(0, 0, 0), (255, 255, 255), (255, 0, 0), (119, 119, 119)]], np.uint8)
    expected = [(0, 0, 0), (100, 0, 0), (53.24, 80.09, 67.20), (50.03, 0, 0)]
    assert rgb_to_lab(frame)[0] == pytest.approx(np.array(expected), abs=0.01)


def test_all_colours_are_those_of_the_definition():
    values = np.arange(0, 256, 15, dtype=np.uint8)
    frame = np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1).reshape(18, -1, 3)
    assert rgb_to_lab(frame).dtype == np.float32
    assert np.abs(rgb_to_lab(frame) - rgb2lab(frame)).max() < 0.04
