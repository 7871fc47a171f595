"""torchvision's classifiers, which features and networks start from: weights, what they are given, a finer grid."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from serving.errors import InputError

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's red, green, blue in [0, 1]; what torchvision's classifiers are given."""
DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation, likewise."""


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


def dilate(backbone: nn.Module, output_stride: int) -> None:
    """Hold a backbone's stride at `output_stride`, in place, without touching its weights.

    Beyond that stride, each convolution that would halve the grid keeps it, and the ones after it are dilated by
    twice as much instead, so that each sees the same input as before (Chen et al., 2017, section 3.1).

    Parameters
    ----------
    backbone
        Convolutions of 1 x 1 and 3 x 3 in the order of `modules`, of stride 1 or 2, padded to keep the grid.
    output_stride
        A power of two, pixels per cell.
    """
    stride = dilation = 1
    for module in backbone.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.kernel_size != (1, 1):
            module.dilation = module.padding = (dilation, dilation)
        if module.stride == (2, 2):
            if stride < output_stride:
                stride *= 2
            else:
                module.stride = (1, 1)
                dilation *= 2


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
