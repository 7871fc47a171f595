import numpy as np
import pytest

from training.evaluation.calibration import BINS, Calibration


def calibration(*pixels):
    """Count (truth, prediction, confidence) of each pixel."""
    counts = Calibration()
    counts.update(*np.array(pixels, np.uint8).T[:, None])
    return counts


def test_error_by_hand():
    # At 0.8 (204) two of four are right, gap 0.3; at 1 (255) two of two; ignored ones count for nobody.
    counts = calibration(*[(0, 0, 204)] * 2, *[(0, 1, 204)] * 2, *[(1, 1, 255)] * 2, (255, 0, 204), (255, 255, 255))
    assert counts.error() == pytest.approx(4 / 6 * 0.3)
    diagram = {entry.high: entry for entry in counts.reliability() if entry.pixels}
    assert sorted(diagram) == [12 / 15, 1]
    assert (diagram[12 / 15].pixels, diagram[12 / 15].accuracy) == (4, 1 / 2)
    assert diagram[12 / 15].confidence == pytest.approx(0.8)
    assert (diagram[1].pixels, diagram[1].accuracy, diagram[1].confidence) == (2, 1, 1)


def test_bins_are_open_below_and_closed_above():
    diagram = calibration((0, 0, 0), (0, 0, 17), (0, 0, 18), (0, 0, 34), (0, 0, 255)).reliability()
    assert len(diagram) == BINS == 15
    assert [entry.pixels for entry in diagram] == [2, 2, *[0] * 12, 1]
    assert diagram[2].accuracy is diagram[2].confidence is None
    assert [entry.low for entry in diagram[1:]] == [entry.high for entry in diagram[:-1]]


def test_gaps_within_a_bin_cancel_and_between_bins_do_not():
    assert calibration((0, 0, 127), (0, 1, 127)).error() == pytest.approx(abs(127 / 255 - 0.5))
    assert calibration((0, 0, 51), (0, 1, 204)).error() == pytest.approx(0.8)


def test_nothing_counted_is_undefined():
    assert np.isnan(Calibration().error())
    assert np.isnan(calibration((255, 0, 9)).error())


def test_it_streams():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, 2, 4, 5), np.uint8)
    confidence = rng.integers(0, 256, (2, 4, 5), np.uint8)
    rows, whole = Calibration(), Calibration()
    for row in range(2):
        rows.update(truth[row], prediction[row], confidence[row])
    whole.update(truth, prediction, confidence)
    assert np.array_equal(rows.counts, whole.counts) and rows.counts.sum() == 40
