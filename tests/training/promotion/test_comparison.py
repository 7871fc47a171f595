"""The gates that compare: small counts whose answers one can work out."""

import numpy as np
import pytest

from training.evaluation.metrics import ConfusionMatrix
from training.promotion.comparison import class_iou, paired_bootstrap, shadow
from training.settings.promotion import PromotionSettings
from training.taxonomy import CAMVID

LIMITS = PromotionSettings(shadow_frames=10)


def test_class_iou_is_that_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    confusion = ConfusionMatrix(CAMVID)
    confusion.update(rng.integers(0, 9, (20, 20), np.uint8), rng.integers(0, 10, (20, 20), np.uint8))
    stacked = class_iou(np.stack([confusion.counts, 2 * confusion.counts]))
    np.testing.assert_array_equal(stacked, [confusion.class_iou()] * 2)


def counts(hits, misses):
    """Frames of two classes: of class 0 so many right, so many taken for class 1, and ten right of class 1."""
    return np.array([[[hit, miss, 0], [0, 10, 0]] for hit, miss in zip(hits, misses, strict=True)])


def test_a_model_that_is_better_in_every_frame_is_better_for_sure():
    worse, better = counts([5, 5, 5], [5, 5, 5]), counts([9, 9, 9], [1, 1, 1])
    difference, bound = paired_bootstrap(better, worse)
    # IoU of the classes: 9/10 and 10/11 against 5/10 and 10/15
    assert difference == pytest.approx((9 / 10 + 10 / 11 - 5 / 10 - 10 / 15) / 2)
    assert bound == pytest.approx(difference)  # the frames are alike, so resampling changes nothing
    assert paired_bootstrap(worse, better)[0] == pytest.approx(-difference)


def test_the_same_model_differs_from_itself_by_nothing_however_the_frames_vary():
    varied = counts([1, 9, 5, 3], [9, 1, 5, 7])
    assert paired_bootstrap(varied, varied) == (0, 0)


def test_frames_that_disagree_widen_the_bound():
    one, other = counts([9, 1, 9, 1], [1, 9, 1, 9]), counts([1, 9, 9, 1], [9, 1, 1, 9])
    difference, bound = paired_bootstrap(one, other)
    assert difference == pytest.approx(0) and bound < -0.1


@pytest.mark.parametrize(
    ("tags", "passed"),
    [
        ({}, False),
        ({"onepixel.shadow": '{"frames": 9, "champion": "3", "agreement": 1.0}'}, False),
        ({"onepixel.shadow": '{"frames": 10, "champion": "3", "agreement": 0.79}'}, False),
        ({"onepixel.shadow": '{"frames": 10, "champion": "2", "agreement": 1.0}'}, False),
        ({"onepixel.shadow": '{"frames": 10, "champion": "3", "agreement": 0.8}'}, True),
    ],
)
def test_the_shadow_must_have_seen_enough_and_agree(tags, passed):
    assert shadow(tags, "3", LIMITS).passed is passed
