"""Class activation maps of an ImageNet network, as one semantic vector per superpixel (paper, section 4.1).

The semantic feature of a pixel is the network's classifier applied at its position (Zhou et al., Learning deep
features for discriminative localization, CVPR 2016). Classification is linear before pooling, so features are averaged
into superpixels first, by one sparse matrix times the coarse maps, and only K rows are classified: the 1,000 maps never
exist at full resolution. `mosf` says through which slices the network sees a frame.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from torchvision import models

from serving.errors import InputError
from training.classifiers import DEVIATION, MEAN, load_torchvision
from training.features.mosf import region_weights, slicing
from training.settings.method import CamSettings

BATCH_PIXELS = {"cpu": 220_000, "cuda": 8_000_000}
"""Input pixels in one forward pass, by device. On one thread MobileNetV2's maps stay in the cache up to about five
slices of 225 x 193, and one of 353 x 481."""


def load_classifier(settings: CamSettings) -> nn.Module:
    """Return the class activation network with its weights, in evaluation mode.

    Raises
    ------
    InputError
        If there is no such network, or the weights are missing or do not fit it.
    """
    if settings.weights is None:
        raise InputError(
            "cam.weights is not set: give a safetensors file (--set cam.weights=FILE), "
            "a torchvision name such as IMAGENET1K_V1, or 'embedded'"
        )
    if settings.weights == "embedded":
        from training.features.crop_classifier import embedded_classifier

        return embedded_classifier()
    if settings.network not in models.list_models(module=models):
        raise InputError(f"cam.network: torchvision has no classifier '{settings.network}'")
    return load_torchvision(settings.network, settings.weights, "cam.weights")


class ClassActivation:
    """A classifier split where global average pooling stands: feature maps before it, a linear layer behind it.

    The split is found, not configured: it is the last layer whose maps, averaged over their positions and sent through
    the network's last linear layer, give the network's own answer.

    Raises
    ------
    InputError
        If the network has no such layer, so that its class activation maps are not defined.
    """

    def __init__(self, network: nn.Module) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = _fused(network).to(self.device).to(memory_format=torch.channels_last)
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(f"cam.network: {type(network).__name__} has no linear layer to take class maps from")
        self._network = network
        self._classifier = linear[-1]
        self._layer = self._find_layer()

    @torch.inference_mode()
    def maps(self, images: Tensor) -> Tensor:
        """Return the feature maps [N, D, h, w] of normalised images [N, 3, H, W], on this network's device.

        As many images go through the network at a time as the device's caches or memory take well.
        """
        images = images.to(self.device, memory_format=torch.channels_last)
        batch = max(1, BATCH_PIXELS[self.device.type] // (images.shape[2] * images.shape[3]))
        return torch.cat([self._forward(part) for part in images.split(batch)])

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Return the class responses [K, S] of features [K, D], on this network's device."""
        return self._classifier(features.to(self.device))

    def _forward(self, images: Tensor) -> Tensor:
        found: list[Tensor] = []
        handle = self._layer.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        try:
            self._network(images)
        finally:
            handle.remove()
        return found[-1]

    @torch.inference_mode()
    def _find_layer(self) -> nn.Module:
        outputs: list[tuple[nn.Module, Tensor]] = []
        handles = [
            module.register_forward_hook(lambda module, _inputs, output: outputs.append((module, output)))
            for module in self._network.modules()
        ]
        image = torch.rand(1, 3, 97, 97, generator=torch.Generator().manual_seed(0)).to(self.device)
        try:
            answer = self._network(image)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"cam.network: {type(self._network).__name__} does not take images of 97 x 97, as a network with "
                f"global average pooling does: {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        for module, output in reversed(outputs):
            is_map = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] > 1
            if is_map and output.shape[1] == self._classifier.in_features:
                pooled = self._classifier(output.mean(dim=(2, 3)))
                if torch.allclose(pooled, answer, rtol=1e-3, atol=1e-3 * float(answer.std())):
                    return module
        raise InputError(
            f"cam.network: {type(self._network).__name__} is no classifier whose last linear layer follows "
            "global average pooling"
        )


def _fused(network: nn.Module) -> nn.Module:
    """Return a copy for inference, each batch normalisation folded into the convolution before it: a third faster."""
    network = copy.deepcopy(network).eval()
    for block in list(network.modules()):
        if isinstance(block, nn.Sequential) and type(block).forward is nn.Sequential.forward:
            for index in range(len(block) - 1):
                convolution, normalisation = block[index], block[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                    block[index] = fuse_conv_bn_eval(convolution, normalisation)
                    block[index + 1] = nn.Identity()
    return network


@torch.inference_mode()
def semantic(
    frame: NDArray[np.uint8],
    labels: NDArray[np.int32],
    count: int,
    activation: ClassActivation,
    settings: CamSettings,
) -> NDArray[np.float32]:
    """Return the semantic feature H of each superpixel.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    labels, count
        Superpixels, int32 [H, W], and their number K.
    activation
        The class activation network, of S classes.
    settings
        The encoder, and the size of its slices.

    Returns
    -------
    float32 [K, S]
        Mean class responses over the superpixel, negative ones clipped at 0; each row sums to 1. (A superpixel without
        any positive response has equal shares.)
    """
    slices = slicing(labels.shape[0], labels.shape[1], settings)
    pixels = torch.tensor(frame, device=activation.device).permute(2, 0, 1)[None].float()
    image = nn.functional.interpolate(pixels, slices.frame_size, mode="bilinear", align_corners=True)
    mean, deviation = (255 * image.new_tensor(value)[:, None, None] for value in (MEAN, DEVIATION))
    maps = activation.maps(torch.cat(slices.cut((image - mean) / deviation)))
    cells = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).cpu().numpy()
    features = region_weights(labels, count, slices.grid, (maps.shape[2], maps.shape[3])) @ cells
    responses = activation.classify(torch.from_numpy(features)).clamp(min=0).cpu().numpy()
    total = responses.sum(axis=1, keepdims=True)
    return np.where(total > 0, responses / np.maximum(total, 1e-12), 1 / responses.shape[1]).astype(np.float32)
