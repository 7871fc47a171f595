"""A trained network from its file of weights."""

from pathlib import Path

import torch
from torchvision import models

from serving.errors import InputError
from training.features.cam import load_classifier
from training.segmentation.checkpoints import load_network
from training.segmentation.networks import DeepLab, DeepLabMobileNetV2
from training.settings import Settings


def trained_network(path: Path, settings: Settings, classes: int) -> DeepLab:
    """Build the network that the settings describe and read its weights.

    Parameters
    ----------
    path
        A safetensors file that `save_network` wrote.
    settings
        `network`, and of `cam` the architecture, are used; the classifier's own weights are not needed.
    classes
        Number of classes.

    Returns
    -------
    DeepLab
        On the GPU where there is one.

    Raises
    ------
    InputError
        If the file is missing, broken, or holds another network.
    """
    cam = settings.cam
    classifier = load_classifier(cam) if cam.weights == "embedded" else models.get_model(cam.network)
    if not isinstance(classifier, models.MobileNetV2):
        raise InputError(f"cam.network: the segmentation network is made from a mobilenet_v2, not a {cam.network}")
    network = DeepLabMobileNetV2(
        classifier,
        classes,
        output_stride=settings.network.output_stride,
        aspp_rates=settings.network.aspp_rates,
        seed=settings.seed,
    )
    load_network(network, path)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")
