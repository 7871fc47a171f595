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
    semantic,
)
from training.settings.method import CamSettings

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


def test_semantic_averages_responses_clips_at_zero_and_sums_to_one():
    frame = np.zeros((12, 12, 3), np.uint8)
    frame[:, :6] = (255, 0, 0)
    frame[:, 6:] = (0, 0, 255)
    labels = np.repeat([[0, 1]], 12, axis=0).repeat(6, axis=1).astype(np.int32)
    found = semantic(frame, labels, 2, ClassActivation(PlainCam()), CamSettings(slice_height=33))
    # Red minus its mean, over its deviation, is class 0; blue lowers class 1 and red is below its mean.
    assert found[0, 0] > 0.9
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert (found >= 0).all()


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "densenet121", "shufflenet_v2_x0_5", "efficientnet_b0"])
def test_the_split_is_found_in_any_network_with_global_average_pooling(name):
    network = models.get_model(name).eval()
    activation = ClassActivation(network)
    images = torch.rand(2, 3, 97, 65)
    pooled = activation.maps(images).mean(dim=(2, 3))
    with torch.inference_mode():
        torch.testing.assert_close(activation.classify(pooled).cpu(), network(images), rtol=1e-3, atol=1e-4)


def test_batch_normalisation_is_folded_away_and_the_given_network_left_as_it_is():
    network = models.mobilenet_v2(width_mult=0.25).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    activation = ClassActivation(network)
    images = torch.rand(7, 3, 225, 193)  # more than a batch
    with torch.inference_mode():
        expected = network.features(images)
    torch.testing.assert_close(activation.maps(images).cpu(), expected, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(monkeypatch):
    network = models.mobilenet_v2(width_mult=0.25)
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    labels = (np.indices((96, 128))[1] // 16).astype(np.int32)
    on_gpu = semantic(frame, labels, 8, ClassActivation(network), CamSettings(slice_height=65))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = semantic(frame, labels, 8, ClassActivation(network), CamSettings(slice_height=65))
    assert on_gpu == pytest.approx(on_cpu, abs=1e-4)


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
