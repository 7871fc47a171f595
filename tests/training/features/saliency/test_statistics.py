import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.features.saliency.pixels import CHANNELS, pixel_features
from training.features.saliency.statistics import region_statistics

LABELS = np.array([[0, 0, 1, 1]] * 2, np.int32)


def test_sums_by_hand():
    frame = np.zeros((2, 4, 3), np.uint8)
    frame[:, 2] = (255, 255, 255)
    regions = region_statistics(pixel_features(frame), LABELS, 2)
    green = CHANNELS.index("green")
    assert regions.area.tolist() == [4, 4]
    assert regions.means[:, green].tolist() == [0, 0.5]
    assert regions.variances[:, green].tolist() == [0, 0.25]
    assert regions.distributions[0][1, [0, 255]].tolist() == [0.5, 0.5]
    assert regions.rows.toarray().tolist() == [[2, 2], [2, 2]]
    assert regions.columns.toarray().tolist() == [[2, 2, 0, 0], [0, 0, 2, 2]]


def test_pixels_of_no_region_count_nowhere():
    frame = np.random.default_rng(0).integers(0, 256, (2, 4, 3), np.uint8)
    pixels = pixel_features(frame)
    some = region_statistics(pixels, np.where(LABELS == 1, 0, -1), 1)
    whole = region_statistics(pixels, LABELS, 2)
    assert some.area.tolist() == [4]
    assert some.sums[0] == pytest.approx(whole.sums[1])
    assert some.columns.toarray().tolist() == [[0, 0, 2, 2]]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_unions_statistics_are_those_of_its_pixels(seed):
    random = np.random.default_rng(seed)
    pixels = pixel_features(random.integers(0, 256, (6, 8, 3), np.uint8))
    labels = random.permutation(np.arange(48) % 7).reshape(6, 8).astype(np.int32)
    union = np.array([0, 1, 2, 0, 1, 2, 0], np.int32)
    merged = region_statistics(pixels, labels, 7).merged(union, 3)
    direct = region_statistics(pixels, union[labels], 3)
    for name in ("area", "sums", "squares"):
        assert getattr(merged, name) == pytest.approx(getattr(direct, name), rel=1e-12)
    for one, other in zip(merged.histograms, direct.histograms, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(merged.rows.toarray(), direct.rows.toarray())
    assert np.array_equal(merged.columns.toarray(), direct.columns.toarray())
