from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from serving.errors import InputError
from training.features.cam import (
    ClassActivation,
    load_classifier,
    mosf_interpolation,
    mosf_slices,
    nearest_slice,
    semantic,
    slice_size,
)
from training.settings import CamSettings

WEIGHTS = Path("../shared/weights/mobilenet_v2_imagenet.safetensors")


class PlainCam(nn.Module):
    """Classifies a pixel by its own channels: its class maps can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.features = nn.AvgPool2d(1)
        self.classifier = nn.Linear(3, 2, bias=False)
        self.classifier.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])

    def forward(self, images):
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def test_slices_are_the_papers():
    slices = mosf_slices(360, 480)
    assert slices.shape == (15, 4)
    assert slices[0].tolist() == [0, 0, 180, 160]
    assert slices[7].tolist() == [90, 160, 180, 160]
    assert slices[14].tolist() == [180, 320, 180, 160]


def test_a_pixel_takes_the_slice_with_the_nearest_centre():
    nearest = nearest_slice(4, 6)
    # Centres lie in rows 1, 2, 3 and columns 1, 2, 3, 4, 5 of the pixels' corners; pixel centres are at halves.
    assert nearest[0].tolist() == [0, 0, 1, 2, 3, 4]
    assert nearest[:, 0].tolist() == [0, 0, 5, 10]


@pytest.mark.parametrize(("height", "width", "cells"), [(12, 24, (3, 2)), (13, 31, (2, 2)), (20, 20, (1, 1))])
def test_interpolation_weights_sum_to_one(height, width, cells):
    matrix = mosf_interpolation(height, width, *cells)
    assert matrix.shape == (height * width, 15 * cells[0] * cells[1])
    assert np.asarray(matrix.sum(axis=1)) == pytest.approx(np.ones(height * width), abs=1e-6)


def test_interpolation_of_a_ramp_is_the_ramp():
    # Every slice holds the frame's own column number at its cells: any pixel gets its own column back.
    height, width, cells = 12, 24, (3, 5)
    columns = [
        left + np.linspace(0, slice_width - 1, cells[1]) for _, left, _, slice_width in mosf_slices(height, width)
    ]
    maps = np.stack([np.tile(column, (cells[0], 1)) for column in columns])
    found = (mosf_interpolation(height, width, *cells) @ maps.ravel()).reshape(height, width)
    assert found == pytest.approx(np.indices((height, width))[1], abs=1e-4)


def test_slices_keep_their_shape_at_sides_of_32k_plus_1():
    assert slice_size(360, 480, 225) == (225, 193)
    assert slice_size(1024, 2048, 353) == (353, 481)


def test_semantic_averages_responses_clips_at_zero_and_sums_to_one():
    frame = np.zeros((12, 12, 3), np.uint8)
    frame[:, :6] = (255, 0, 0)
    frame[:, 6:] = (0, 0, 255)
    labels = np.repeat([[0, 1]], 12, axis=0).repeat(6, axis=1).astype(np.int32)
    found = semantic(frame, labels, 2, ClassActivation(PlainCam()), slice_height=33)
    # Red minus its mean, over its deviation, is class 0; blue lowers class 1 and red is below its mean.
    assert found[0, 0] > 0.9
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert (found >= 0).all()


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "densenet121", "shufflenet_v2_x0_5", "efficientnet_b0"])
def test_the_split_is_found_in_any_network_with_global_average_pooling(name):
    network = models.get_model(name).eval()
    activation = ClassActivation(network)
    images = torch.rand(1, 3, 97, 65)
    pooled = activation.maps(images).mean(dim=(2, 3))
    with torch.inference_mode():
        torch.testing.assert_close(activation.classify(pooled), network(images), rtol=1e-3, atol=1e-4)


def test_a_network_without_global_average_pooling_is_refused():
    with pytest.raises(InputError, match="global average pooling"):
        ClassActivation(models.alexnet())


def test_a_network_of_one_image_size_is_refused():
    with pytest.raises(InputError, match=r"VisionTransformer does not take images of 97 x 97"):
        ClassActivation(models.VisionTransformer(224, 32, 1, 1, 8, 8))


def test_weights_are_asked_for_and_checked(tmp_path):
    with pytest.raises(InputError, match=r"cam\.weights is not set"):
        load_classifier(CamSettings())
    with pytest.raises(InputError, match=r"no file .*absent.*; give a safetensors file of torchvision's mobilenet_v2"):
        load_classifier(CamSettings(weights=str(tmp_path / "absent.safetensors")))
    wrong = tmp_path / "wrong.safetensors"
    save_file({"a": torch.zeros(1)}, wrong)
    with pytest.raises(InputError, match="does not fit mobilenet_v2"):
        load_classifier(CamSettings(weights=str(wrong)))
    with pytest.raises(InputError, match="no classifier 'mobilenet_v9'"):
        load_classifier(CamSettings(network="mobilenet_v9", weights=str(wrong)))


@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"needs the ImageNet weights {WEIGHTS}")
def test_given_imagenet_weights_load():
    activation = ClassActivation(load_classifier(CamSettings(weights=str(WEIGHTS))))
    assert activation.classify(activation.maps(torch.zeros(1, 3, 225, 193)).mean(dim=(2, 3))).shape == (1, 1000)
