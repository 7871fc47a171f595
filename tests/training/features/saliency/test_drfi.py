import numpy as np
import pytest

from training.datasets.salient import SalientScenes
from training.features.saliency.drfi import cut_up, drfi_maps
from training.features.saliency.fit import area_under_curve
from training.features.saliency.forest import SegmentationSettings, load_forest


@pytest.fixture(scope="module")
def forest():
    return load_forest("embedded")


def test_pieces_are_cut_by_every_view_and_regions_are_unions_of_them():
    frame, _ = SalientScenes(1, seed=3, size=(60, 90))[0]
    settings = SegmentationSettings(minimum_size=20, levels=(12, 4))
    pieces = cut_up(frame, settings)
    count = len(pieces.area)
    assert np.array_equal(np.bincount(pieces.labels.ravel(), minlength=count), pieces.area)
    for seam in (20, 30, 40):
        assert not set(np.unique(pieces.labels[:seam])) & set(np.unique(pieces.labels[seam:]))
    for view, tiles in zip(pieces.views, (1, 4, 9), strict=True):
        fine, coarse = view
        for level, most in zip(view, settings.levels, strict=True):
            assert level.union.shape == (count,)
            assert level.descriptors.shape == (int(level.union.max()) + 1, 93)
            assert len(level.descriptors) <= most * tiles
        # a coarse region is a union of fine ones
        assert len(np.unique(np.stack([fine.union, coarse.union]), axis=1).T) == len(fine.descriptors)


def test_a_large_frame_is_reduced_and_its_map_is_not():
    frame = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    assert cut_up(frame, SegmentationSettings(pixels=2_700, minimum_size=20)).labels.shape == (45, 60)


def test_a_symmetric_scene_has_a_symmetric_map_and_its_object_is_salient(forest):
    frame = np.full((60, 80, 3), (90, 110, 90), np.uint8)
    frame[20:40, 30:50] = (220, 40, 30)
    whole, quarters, ninths = drfi_maps(frame, forest)
    for view in (whole, quarters, ninths):
        assert view.dtype == np.float32 and view.shape == (60, 80)
        assert view.min() >= 0 and view.max() <= 1
    assert np.array_equal(whole, whole[:, ::-1]) and np.array_equal(whole, whole[::-1])
    assert whole[30, 40] > whole[5, 5] + 0.3


@pytest.mark.parametrize("size", [(3, 3), (6, 6), (7, 40)])
def test_plain_and_tiny_frames_have_maps(forest, size):
    for view in drfi_maps(np.full((*size, 3), 128, np.uint8), forest):
        assert view.shape == size and np.isfinite(view).all()


def test_the_same_frame_has_bitwise_the_same_maps(forest):
    frame, _ = SalientScenes(1, seed=4, size=(120, 160))[0]
    for first, second in zip(drfi_maps(frame, forest), drfi_maps(frame.copy(), forest), strict=True):
        assert first.tobytes() == second.tobytes()


def test_the_embedded_forest_beats_unsupervised_maps_on_scenes_it_has_never_seen(forest):
    auc = area_under_curve(SalientScenes(4, seed=77, size=(300, 400)), forest)
    assert auc["drfi"] > auc["geodesic"]
    assert auc["drfi"] > 0.88
