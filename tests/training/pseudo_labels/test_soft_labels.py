import math

import numpy as np
import pytest

from training.pseudo_labels.soft_labels import class_distributions

SCORES = np.array([[0, math.log(3), 9], [0, 0, 0], [5, 0, 0]], np.float32)
ALLOWED = np.array([[True, True, False], [True] * 3, [False] * 3])
LABELS = np.array([1, 0, 255], np.uint8)


def test_distributions_by_hand():
    found = class_distributions(SCORES, ALLOWED, LABELS, 1)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[1 / 4, 3 / 4, 0], [1 / 3] * 3, [0, 0, 0]]))
    # Logarithms halved: 1 against the square root of 3.
    assert class_distributions(SCORES, ALLOWED, LABELS, 2)[0] == pytest.approx([0.36603, 0.63397, 0], abs=1e-5)


def test_a_low_temperature_is_the_likeliest_class():
    assert class_distributions(SCORES, ALLOWED, LABELS, 0.01)[0].tolist() == [0, 1, 0]
