"""torchvision's classifiers with their weights, from a safetensors file or by torchvision's own names."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from serving.errors import InputError


def load_torchvision(architecture: str, weights: str, setting: str) -> nn.Module:
    """Return a classifier with its weights, in evaluation mode.

    Parameters
    ----------
    architecture
        torchvision's name of it, such as `mobilenet_v2`.
    weights
        A safetensors file of torchvision's state dict, or a torchvision name such as IMAGENET1K_V1.
    setting
        The setting that holds the weights, for errors: `cam.weights`.

    Raises
    ------
    InputError
        If there are no such weights, they do not fit, or are not all finite (torchvision's VGG-16 IMAGENET1K_FEATURES
        has no classifying layers).
    """
    if not weights.endswith(".safetensors"):
        network = _by_name(architecture, weights, setting)
    elif not Path(weights).is_file():
        raise InputError(
            f"{setting}: no file {weights}; give a safetensors file of torchvision's {architecture} or "
            "a torchvision name such as IMAGENET1K_V1"
        )
    else:
        network = models.get_model(architecture)
        try:
            network.load_state_dict(load_file(weights), strict=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{setting}: {weights} does not fit {architecture}: {error}") from error
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise InputError(f"{setting}: {weights} of {architecture}: {name} has values that are not finite")
    return network.eval()


def _by_name(architecture: str, weights: str, setting: str) -> nn.Module:
    try:
        return models.get_model(architecture, weights=weights)
    except (KeyError, ValueError) as error:
        names = ", ".join(models.get_model_weights(architecture).__members__)
        raise InputError(f"{setting}: no '{weights}' of {architecture}; there are: {names}") from error
    except OSError as error:
        raise InputError(
            f"{setting}: torchvision could not download '{weights}' ({error}); "
            "fetch the weights elsewhere and give them as a safetensors file"
        ) from error
