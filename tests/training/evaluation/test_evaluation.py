import json

import numpy as np
import pytest

from training.evaluation.evaluation import Evaluation
from training.taxonomy import CAMVID

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1], [0, 1, 1, 3]], np.uint8)


def evaluation(confidence=None):
    one = Evaluation(CAMVID)
    one.update(TRUTH, PREDICTION, confidence)
    return one


def test_the_report_by_hand():
    report = evaluation(np.full(TRUTH.shape, 255, np.uint8)).report()
    # Sky: 3 right, 1 missed. Building: 3 right, 1 wrong.
    assert (report["iou"]["Sky"], report["iou"]["Building"], report["iou"]["Pole"]) == (3 / 4, 3 / 4, None)
    assert (report["precision"]["Building"], report["recall"]["Sky"]) == (3 / 4, 3 / 4)
    assert report["iou_category"]["sky"] == report["iou_category"]["construction"] == 3 / 4
    assert report["miou_class"] == report["miou_category"] == report["frequency_weighted_iou"] == 3 / 4
    assert report["pixel_accuracy"] == 6 / 7 and report["calibration_error"] == pytest.approx(1 / 7)
    assert report["boundary_f"]["Sky"] is not None and report["boundary_f"]["Pole"] is None
    assert report["frames"] == 1 and len(report["reliability"]) == 15
    json.dumps(report, allow_nan=False)


def test_without_confidence_there_is_no_calibration():
    report = evaluation().report()
    assert report["calibration_error"] is None
    assert sum(entry["pixels"] for entry in report["reliability"]) == 0


def test_what_is_logged_is_what_is_reported():
    one = evaluation(np.full(TRUTH.shape, 128, np.uint8))
    report, metrics = one.report(), one.network_metrics()
    assert metrics == {
        "val/miou_class": report["miou_class"],
        "val/miou_category": report["miou_category"],
        "val/pixel_accuracy": report["pixel_accuracy"],
        "val/frequency_weighted_iou": report["frequency_weighted_iou"],
        "val/boundary_f": report["mean_boundary_f"],
        "val/calibration_error": report["calibration_error"],
        "val/iou/Sky": 3 / 4,
        "val/iou/Building": 3 / 4,
    }
    assert Evaluation(CAMVID).network_metrics() == {}
