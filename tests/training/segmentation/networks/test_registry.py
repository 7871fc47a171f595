from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from serving.errors import InputError
from training.segmentation.networks import NETWORKS, DeepLabMobileNetV2, build_network
from training.settings.learning import NetworkName, NetworkSettings
from training.settings.method import CamSettings


def build(cam=None, pretrained=True, **network):
    return build_network(NetworkSettings(**network), cam or CamSettings(), 3, seed=0, pretrained=pretrained)


def save(network, path):
    save_file(network.state_dict(), path)
    return str(path)


def test_settings_and_registry_name_the_same_networks():
    assert tuple(NETWORKS) == get_args(NetworkName)


def test_defaults_are_the_published_ones():
    described = {
        name: (NetworkSettings(name=name).output_stride, NetworkSettings(name=name).aspp_rates) for name in NETWORKS
    }
    assert described == {
        "deeplab_mobilenet_v2": (16, (6, 12, 18, 24)),
        "deeplab_mobilenet_v2_skip": (16, (6, 12, 18, 24)),
        "deeplab_vgg16_largefov": (8, (12,)),
        "deeplab_vgg16_aspp": (8, (6, 12, 18, 24)),
        "deeplab_resnet101": (8, (6, 12, 18, 24)),
    }
    assert NetworkSettings() == NetworkSettings(name="deeplab_mobilenet_v2")


def test_the_class_activation_networks_weights_serve_where_they_fit(tmp_path):
    given = models.mobilenet_v2()
    cam = CamSettings(weights=save(given, tmp_path / "given.safetensors"))
    network = build(cam)
    assert isinstance(network, DeepLabMobileNetV2)
    assert torch.equal(network.backbone[0][0].weight, given.features[0][0].weight)


def test_weights_of_its_own_go_first(tmp_path):
    own, other = models.mobilenet_v2(), models.mobilenet_v2()
    cam = CamSettings(weights=save(other, tmp_path / "other.safetensors"))
    network = build(cam, weights=save(own, tmp_path / "own.safetensors"))
    assert torch.equal(network.backbone[0][0].weight, own.features[0][0].weight)


def test_the_embedded_classifier_gives_the_half_width_network():
    cam = CamSettings(weights="embedded")
    trained, untrained = build(cam), build(cam, pretrained=False)
    assert trained.head.branches[0].in_channels == 160
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (trained, untrained)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"name": "deeplab_vgg16_aspp"},
            r"network\.weights is not set, and cam\.weights are a mobilenet_v2's: .* vgg16",
        ),
        (
            {"name": "deeplab_resnet101", "weights": "IMAGENET1K_V9"},
            r"no 'IMAGENET1K_V9' of resnet101; .*IMAGENET1K_V2",
        ),
        ({"name": "deeplab_resnet101", "weights": "absent.safetensors"}, r"network\.weights: no file absent\.safet"),
    ],
)
def test_weights_that_are_not_there_are_told(network, message):
    with pytest.raises(InputError, match=message):
        build(CamSettings(weights="embedded"), **network)


def test_weights_that_do_not_fit_are_told(tmp_path):
    path = save(models.resnet18(), tmp_path / "resnet18.safetensors")
    with pytest.raises(InputError, match=r"network\.weights: .*resnet18\.safetensors does not fit mobilenet_v2"):
        build(weights=path)


def test_weights_that_are_not_finite_are_told(tmp_path):
    broken = models.mobilenet_v2()
    broken.classifier[1].bias.data[3] = torch.nan
    path = save(broken, tmp_path / "broken.safetensors")
    with pytest.raises(
        InputError, match=r"network\.weights: .*broken.*classifier\.1\.bias has values that are not fin"
    ):
        build(weights=path)
