import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from serving.errors import InputError
from training.datasets.crops import CROP_CLASSES, object_crop
from training.features import crop_classifier
from training.features.crop_classifier import (
    HELD_OUT_SEED,
    MAXIMUM_BYTES,
    WIDTH,
    accuracy,
    embedded_classifier,
    shipped_metadata,
)


@pytest.mark.parametrize("name", CROP_CLASSES)
def test_crops_of_every_class_are_rgb_bytes_that_the_seed_decides(name):
    crop = object_crop(np.random.default_rng(5), name, 65)
    assert crop.dtype == np.uint8
    assert crop.shape == (65, 65, 3)
    assert crop.std() > 1
    assert np.array_equal(crop, object_crop(np.random.default_rng(5), name, 65))
    assert not np.array_equal(crop, object_crop(np.random.default_rng(6), name, 65))


def test_unknown_class_is_named():
    with pytest.raises(InputError, match="'dragon'"):
        object_crop(np.random.default_rng(0), "dragon", 65)


def test_shipped_classifier_is_small_and_says_what_it_is():
    shipped = files("training.features") / "crop_classifier.safetensors"
    assert len(shipped.read_bytes()) <= MAXIMUM_BYTES
    metadata = shipped_metadata()
    assert json.loads(metadata["classes"]) == list(CROP_CLASSES)
    assert metadata["width_mult"] == str(WIDTH)
    assert float(metadata["held_out_accuracy"]) > 0.8
    assert metadata["command"].startswith("python -m training.features.crop_classifier")


def test_shipped_classifier_knows_held_out_crops():
    network = embedded_classifier()
    assert not network.training
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert accuracy(network, 2 * len(CROP_CLASSES), seed=HELD_OUT_SEED + 1) > 0.7


def test_the_command_writes_such_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(crop_classifier, "BATCH", 8)
    monkeypatch.setattr(crop_classifier, "PAINTERS", 0)
    monkeypatch.setattr(crop_classifier, "CALIBRATION_BATCHES", 1)
    network = crop_classifier.train([crop_classifier.Stage((65,), 6, 1e-3)])
    crop_classifier.write(network, tmp_path / "made.safetensors", 0.5)
    shipped, made = embedded_classifier().state_dict(), load_file(tmp_path / "made.safetensors")
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in shipped.items()}
    assert all(value.isfinite().all() for value in made.values())
