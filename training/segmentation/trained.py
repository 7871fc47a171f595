"""A trained network from its file of weights."""

from pathlib import Path

import torch

from training.segmentation.checkpoints import load_network
from training.segmentation.networks import DeepLab, build_network
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
    network = build_network(settings.network, settings.cam, classes, seed=settings.seed, pretrained=False)
    load_network(network, path)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")
