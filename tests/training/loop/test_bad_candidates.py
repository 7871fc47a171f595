"""The broken files of the loop are broken in the way that they say, and only in that."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.errors import InputError
from serving.model import Model
from training.loop.bad_candidates import BAD, cut_off, write_bad_candidates
from training.promotion.file_checks import finite

SHIPPED = "model_store/camvid/1/model.onnx"


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return write_bad_candidates(Path(SHIPPED), tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def answer():
    frame = np.random.default_rng(0).integers(0, 256, (1, 360, 480, 3), np.uint8)
    mask, confidence = Model.load(SHIPPED).infer(frame)
    return frame, mask, confidence


def test_shuffled_classes_answer_the_next_class_as_surely(bad, answer):
    frame, mask, confidence = answer
    shuffled = Model.load(bad["shuffled_classes"]).infer(frame)
    np.testing.assert_array_equal(shuffled[0], (mask.astype(int) - 1) % 11)
    np.testing.assert_array_equal(shuffled[1], confidence)
    assert finite(bad["shuffled_classes"]).passed


def test_the_slow_one_answers_alike(bad, answer):
    frame, mask, confidence = answer
    slow = Model.load(bad["ten_times_slower"]).infer(frame)
    np.testing.assert_array_equal(slow[0], mask)
    np.testing.assert_array_equal(slow[1], confidence)
    convolutions = [
        sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
        for path in (SHIPPED, bad["ten_times_slower"])
    ]
    assert convolutions[1] > convolutions[0]


def test_not_all_weights_of_the_diverged_one_are_numbers(bad):
    assert finite(bad["nan_weights"]).passed is False and finite(bad["nan_weights"]).figure > 0


def test_the_truncated_one_is_whole_until_it_is_cut_off_in_the_store(bad, tmp_path):
    stored = tmp_path / "1" / "models" / "m-1" / "artifacts" / "model.onnx"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(bad["truncated"].read_bytes())
    Model.load(stored)
    cut_off(tmp_path, hashlib.sha256(stored.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="not an ONNX file"):
        Model.load(stored)
    with pytest.raises(FileNotFoundError):
        cut_off(tmp_path, "0" * 64)
    assert set(bad) == set(BAD)
