import numpy as np
import pytest

from training.taxonomy import CAMVID, CITYSCAPES


def test_cityscapes_has_19_classes_in_7_categories_of_which_12_are_objects():
    assert len(CITYSCAPES.classes) == 19
    assert CITYSCAPES.categories == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    assert len(CITYSCAPES.ids_of("object")) == 12


@pytest.mark.parametrize("taxonomy", [CAMVID, CITYSCAPES])
def test_names_and_colours_are_unique(taxonomy):
    assert len(set(taxonomy.names)) == len(taxonomy.classes)
    assert len({info.colour for info in taxonomy.classes}) == len(taxonomy.classes)
    assert taxonomy.palette.shape == (256, 3)
    assert (taxonomy.palette[255] == 0).all()


def test_the_band_prior_is_sky_above_road():
    assert [CAMVID.names[i] for i in CAMVID.band_prior()] == ["Sky", "Sky", "Road", "Road"]
    assert [CITYSCAPES.names[i] for i in CITYSCAPES.band_prior()] == ["sky", "sky", "road", "road"]


def test_every_band_allows_an_object_and_a_scene():
    for taxonomy in (CAMVID, CITYSCAPES):
        for kind in ("object", "scene"):
            assert taxonomy.allowed[:, taxonomy.ids_of(kind)].any(axis=1).all()
    assert np.array_equal(CAMVID.allowed.shape, (4, 11))
