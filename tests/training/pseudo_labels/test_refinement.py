import numpy as np
import pytest

from training.pseudo_labels.refinement import allowed_classes, refine, where_allowed
from training.settings.method import PseudoLabelSettings
from training.taxonomy import CAMVID


def test_equation_4_by_hand():
    scores = np.array([[1, 0], [0, 0.5]], np.float32)
    context = np.array([[1, 0.25], [0.25, 1]], np.float32)
    assert refine(scores, context) == pytest.approx(np.array([[0.8, 0.1], [0.2, 0.4]]))


def test_bands_of_camvid():
    allowed = allowed_classes(np.array([1, 2, 3, 4], np.uint8), CAMVID)
    names = [[name for name, here in zip(CAMVID.names, row, strict=True) if here] for row in allowed]
    assert names[0] == ["Sky", "Building", "Tree", "SignSymbol"]
    assert names[3] == ["Pole", "Road", "Sidewalk", "Fence", "Car", "Pedestrian", "Bicyclist"]
    assert "Sky" in names[1] and "Sky" not in names[2]


def test_what_is_wider_than_a_pole_is_none():
    band, width = np.full(3, 4, np.uint8), np.array([0.01, 0.025, 0.026], np.float32)
    thin = where_allowed(band, width, CAMVID, PseudoLabelSettings(thin=True))
    free = where_allowed(band, width, CAMVID, PseudoLabelSettings(thin=False))
    pole = CAMVID.names.index("Pole")
    assert thin[:, pole].tolist() == [True, True, False] and free[:, pole].all()
    assert np.array_equal(np.delete(thin, pole, axis=1), np.delete(free, pole, axis=1))
    everywhere = where_allowed(band, width, CAMVID, PseudoLabelSettings(thin=True, location=False))
    assert everywhere[:2].all() and everywhere[2].sum() == len(CAMVID.names) - 1
