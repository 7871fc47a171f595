"""The networks by name, and the one door to them: from settings to a network with its initial weights.

`settings.NetworkSettings.name` lists the same names; to add a network, add it there and here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn
from torchvision import models

from serving.errors import InputError
from training.classifiers import load_torchvision
from training.features.cam import load_classifier
from training.segmentation.networks.base import DeepLab
from training.segmentation.networks.mobilenet_v2 import DeepLabMobileNetV2, DeepLabMobileNetV2Skip
from training.segmentation.networks.resnet101 import DeepLabResNet101
from training.segmentation.networks.vgg16 import DeepLabVGG16, DeepLabVGG16LargeFOV
from training.settings.learning import NetworkName, NetworkSettings
from training.settings.method import CamSettings


@dataclass(frozen=True)
class Registered:
    """A network that settings can name."""

    architecture: str
    """torchvision's name of the classifier that it starts from."""
    make: Callable[..., DeepLab]
    """Takes that classifier, the classes, `output_stride`, `aspp_rates` and `seed`."""


NETWORKS: Mapping[NetworkName, Registered] = {
    "deeplab_mobilenet_v2": Registered("mobilenet_v2", DeepLabMobileNetV2),
    "deeplab_mobilenet_v2_skip": Registered("mobilenet_v2", DeepLabMobileNetV2Skip),
    "deeplab_vgg16_largefov": Registered("vgg16", DeepLabVGG16LargeFOV),
    "deeplab_vgg16_aspp": Registered("vgg16", DeepLabVGG16),
    "deeplab_resnet101": Registered("resnet101", DeepLabResNet101),
}


def build_network(
    settings: NetworkSettings, cam: CamSettings, classes: int, *, seed: int, pretrained: bool = True
) -> DeepLab:
    """Return the network that the settings name, in training mode, on torch's default device.

    Parameters
    ----------
    settings
        Its name, weights, stride and dilations.
    cam
        The class activation network, whose weights it starts from where it has none of its own.
    classes
        Logits per cell.
    seed
        Of the weights that no classifier has.
    pretrained
        Start from the classifier's weights; else from arbitrary ones, for whoever puts in others, or needs the shape.

    Raises
    ------
    InputError
        If there are no such weights, or they do not fit the network.
    """
    registered = NETWORKS[settings.name]
    classifier = _classifier(settings, cam, registered.architecture, pretrained)
    return registered.make(
        classifier, classes, output_stride=settings.output_stride, aspp_rates=settings.aspp_rates, seed=seed
    )


def _classifier(settings: NetworkSettings, cam: CamSettings, architecture: str, pretrained: bool) -> nn.Module:
    shared = settings.weights is None and cam.network == architecture
    if not pretrained:
        if shared and cam.weights == "embedded":
            from training.features.crop_classifier import untrained_classifier

            return untrained_classifier()
        return models.get_model(architecture)
    if settings.weights is not None:
        return load_torchvision(architecture, settings.weights, "network.weights")
    if not shared:
        raise InputError(
            f"network.weights is not set, and cam.weights are a {cam.network}'s: {settings.name} starts from a "
            f"{architecture}; give a safetensors file of torchvision's {architecture} (--set network.weights=FILE) or "
            "a torchvision name such as IMAGENET1K_V1"
        )
    return load_classifier(cam)
