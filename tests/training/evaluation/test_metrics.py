import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.evaluation.metrics import ConfusionMatrix, band_prior_labels, region_oracle
from training.taxonomy import CAMVID, CITYSCAPES, ClassInfo, Taxonomy

NAN = float("nan")


def make_class(name, category):
    return ClassInfo(name=name, colour=(0, 0, 0), category=category, kind="scene", bands=(1, 2, 3, 4))


# a and b are one category, c and d one each.
LETTERS = Taxonomy("letters", tuple(make_class(n, k) for n, k in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "z"))))


def mask(*rows):
    return np.array(rows, np.uint8)


def matrix(truth, prediction, taxonomy=LETTERS):
    confusion = ConfusionMatrix(taxonomy)
    confusion.update(truth, prediction)
    return confusion


@pytest.fixture
def worked():
    # Counted pixels: a as a, a as b, b as nothing, c as c, c as a. One ignored, predicted as d.
    return matrix(mask([0, 0, 1], [2, 2, 255]), mask([0, 1, 255], [2, 0, 3]))


def test_counts(worked):
    assert worked.counts.tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert worked.counts.dtype == np.int64


def test_class_iou(worked):
    # a: 1 right, 1 missed, 1 wrong; b: 1 missed, 1 wrong; c: 1 right, 1 missed; d only on the ignored pixel.
    np.testing.assert_array_equal(worked.class_iou(), [1 / 3, 0, 1 / 2, NAN])
    assert worked.miou_class() == pytest.approx((1 / 3 + 0 + 1 / 2) / 3)


def test_category_iou(worked):
    # x: a as a and a as b right, b missed, c as a wrong: 2 / 4. y: 1 / 2.
    np.testing.assert_array_equal(worked.category_iou(), [1 / 2, 1 / 2, NAN])
    assert worked.miou_category() == 1 / 2


def test_precision_recall_accuracy_coverage(worked):
    np.testing.assert_array_equal(worked.precision(), [1 / 2, 0, 1, NAN])
    np.testing.assert_array_equal(worked.recall(), [1 / 2, 0, 1 / 2, NAN])
    assert worked.pixel_accuracy() == 2 / 5
    assert worked.coverage() == 4 / 5


def test_frequency_weighted_iou(worked):
    # a is 2 of the 5 true pixels, b 1, c 2: 2/5 x 1/3 + 1/5 x 0 + 2/5 x 1/2.
    assert worked.frequency_weighted_iou() == pytest.approx(1 / 3)
    assert matrix(mask([0, 0, 0]), mask([0, 0, 3])).frequency_weighted_iou() == pytest.approx(2 / 3)
    assert np.isnan(matrix(mask([255]), mask([0])).frequency_weighted_iou())


def test_a_class_that_is_predicted_but_absent_stays_in_the_mean():
    confusion = matrix(mask([0, 0]), mask([0, 3]))
    np.testing.assert_array_equal(confusion.class_iou(), [1 / 2, NAN, NAN, 0])
    assert confusion.miou_class() == 1 / 4


def test_network_metrics(worked):
    assert worked.network_metrics() == pytest.approx(
        {
            "val/miou_class": 5 / 18,
            "val/miou_category": 1 / 2,
            "val/pixel_accuracy": 2 / 5,
            "val/frequency_weighted_iou": 1 / 3,
            "val/iou/a": 1 / 3,
            "val/iou/b": 0,
            "val/iou/c": 1 / 2,
        }
    )


def test_pseudo_label_metrics_count_a_class_that_is_never_predicted_as_precision_0():
    metrics = matrix(mask([0, 0, 1, 2]), mask([0, 2, 255, 2])).pseudo_label_metrics()
    assert metrics == pytest.approx(
        {
            "pseudo/precision": (1 + 0 + 1 / 2) / 3,
            "pseudo/recall": (1 / 2 + 0 + 1) / 3,
            "pseudo/coverage": 3 / 4,
            "pseudo/miou_class": (1 / 2 + 0 + 1 / 2) / 3,
            "pseudo/iou/a": 1 / 2,
            "pseudo/iou/b": 0,
            "pseudo/iou/c": 1 / 2,
        }
    )


def test_nothing_counted_leaves_every_figure_out():
    confusion = matrix(mask([255]), mask([0]))
    assert np.isnan(confusion.miou_class())
    assert confusion.network_metrics() == confusion.pseudo_label_metrics() == {}


def test_metrics_stream():
    truth, prediction = mask([0, 1], [2, 255]), mask([0, 0], [2, 1])
    rows = ConfusionMatrix(LETTERS)
    for row in range(2):
        rows.update(truth[row], prediction[row])
    assert np.array_equal(rows.counts, matrix(truth, prediction).counts)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (mask([0]), mask([4]), "prediction holds 4; allowed are 0 to 3 and 255"),
        (mask([9]), mask([0]), "truth holds 9"),
        (mask([0, 0]), mask([0]), "must be equal"),
    ],
)
def test_what_cannot_be_counted_is_an_error(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        matrix(truth, prediction)


VALUES = st.sampled_from([0, 1, 2, 3, 255])
MASKS = arrays(np.uint8, (2, 12), elements=VALUES)


@settings(max_examples=50, deadline=None)
@given(masks=MASKS, order=st.permutations(range(4)))
def test_relabelling_permutes_iou(masks, order):
    table = np.arange(256, dtype=np.uint8)
    table[:4] = order
    renamed = matrix(table[masks[0]], table[masks[1]]).class_iou()
    np.testing.assert_array_equal(renamed[list(order)], matrix(*masks).class_iou())


@settings(max_examples=50, deadline=None)
@given(masks=MASKS, more=arrays(np.uint8, 5, elements=VALUES))
def test_ignored_pixels_change_nothing(masks, more):
    longer = matrix(np.append(masks[0], np.full(5, 255, np.uint8)), np.append(masks[1], more))
    assert np.array_equal(longer.counts, matrix(*masks).counts)


@settings(max_examples=50, deadline=None)
@given(masks=MASKS)
def test_figures_are_fractions_and_categories_are_no_harder_than_their_union(masks):
    confusion = matrix(*masks)
    for figure in (confusion.class_iou(), confusion.category_iou(), confusion.precision(), confusion.recall()):
        defined = figure[~np.isnan(figure)]
        assert ((defined >= 0) & (defined <= 1)).all()
    merged = np.array([0, 0, 1, 2] + [255] * 252, np.uint8)
    by_category = Taxonomy("xyz", tuple(make_class(name, name) for name in "xyz"))
    expected = matrix(merged[masks[0]], merged[masks[1]], by_category).class_iou()
    np.testing.assert_array_equal(confusion.category_iou(), expected)


def test_region_oracle():
    regions = np.array([[0, 0, 1], [0, 2, 2]], np.int32)
    # Region 0: 1 twice against 0; region 1: nothing counted; region 2: a tie of 3 and 2 goes to 2, its 255 is no vote.
    truth = mask([1, 1, 255], [0, 3, 2])
    assert region_oracle(regions, truth).tolist() == [[1, 1, 255], [1, 2, 2]]


@pytest.mark.parametrize("taxonomy", [CAMVID, CITYSCAPES])
def test_band_prior_labels(taxonomy):
    labels = band_prior_labels(taxonomy, (8, 3))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[value] * 3 for value in taxonomy.band_prior().tolist() for _ in range(2)]
