"""What `onepixel evaluate` counts and how it is written; that a real model is scored is in `test_pipeline`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from serving.errors import InputError
from training.cli import main
from training.datasets.base import Dataset
from training.evaluation import evaluate
from training.evaluation.evaluate import evaluate_model
from training.taxonomy import CITYSCAPES


class Frames(Dataset):
    """Frames of one value, which is also their label: 0, 1, 2, ..."""

    taxonomy = CITYSCAPES
    split = "val"
    has_labels = True

    def __init__(self, *values):
        self.values = {f"frame{index}": value for index, value in enumerate(values)}
        self.frame_ids = tuple(self.values)

    def frame(self, frame_id):
        return np.full((2, 3, 3), self.values[frame_id], np.uint8)

    def labels(self, frame_id):
        return np.full((2, 3), self.values[frame_id], np.uint8)


class Always0:
    """A model that finds road everywhere."""

    digest = "0" * 64
    metadata = SimpleNamespace(classes=[SimpleNamespace(name=name) for name in CITYSCAPES.names])
    segmented = 0

    def segment(self, frame):
        self.segmented += 1
        return np.zeros(frame.shape[:2], np.uint8), None


@pytest.fixture
def model(monkeypatch):
    model = Always0()
    monkeypatch.setattr(evaluate.Model, "load", lambda path: model)
    return model


def test_scores_by_hand(model):
    scores = evaluate_model("model.onnx", Frames(0, 2, 0, 2))
    assert scores["frames"] == model.segmented == 4
    assert (scores["iou"]["road"], scores["iou"]["building"], scores["iou"]["sky"]) == (1 / 2, 0, None)
    assert (scores["precision"]["building"], scores["recall"]["building"]) == (None, 0)
    assert (scores["miou_class"], scores["miou_category"], scores["pixel_accuracy"]) == (1 / 4, 1 / 4, 1 / 2)


def test_a_limit_takes_evenly_spaced_frames(model):
    scores = evaluate_model("model.onnx", Frames(0, 2, 0, 2), limit=2)  # the first and the third
    assert scores["frames"] == model.segmented == 2
    assert scores["miou_class"] == 1


def test_what_is_undefined_is_null_in_json(model):
    scores = json.loads(json.dumps(evaluate_model("model.onnx", Frames(255)), allow_nan=False))
    assert scores["miou_class"] is scores["miou_category"] is scores["pixel_accuracy"] is None
    assert set(scores["iou"].values()) == set(scores["precision"].values()) == set(scores["recall"].values()) == {None}


def test_a_model_of_other_classes_is_refused(model):
    model.metadata = SimpleNamespace(classes=[SimpleNamespace(name="lawn")])
    with pytest.raises(InputError, match=r"model\.onnx: its classes are lawn; cityscapes has others"):
        evaluate_model("model.onnx", Frames(0))


def test_the_command_takes_the_limit_and_says_so(model):
    settings = ["--set", "dataset.limit=3", "--set", "dataset.size=[64, 128]", "--set", "dataset.frames=10"]
    result = CliRunner().invoke(
        main, ["evaluate", "--model", "model.onnx", "--dataset", "streets", "--json", *settings]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["frames"] == model.segmented == 3
    assert "warning: dataset.limit=3: 3 of the 5 frames of 'val' are scored" in result.stderr
