"""Class activation maps of an ImageNet network, fused over 15 overlapping slices (MOSF; paper, figure 3).

The semantic feature of a pixel is the network's classifier applied at its position (Zhou et al., Learning deep
features for discriminative localization, CVPR 2016). Classification is linear before pooling, so features are averaged
into superpixels first, by one sparse matrix times the coarse maps, and only K rows are classified: the 1,000 maps never
exist at full resolution.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import sparse
from torch import Tensor, nn
from torchvision import models

from serving.errors import InputError
from training.features.superpixels import pixel_membership
from training.segmentation.networks import DEVIATION, MEAN
from training.settings import CamSettings

SLICES_DOWN, SLICES_ACROSS = 3, 5
BATCH = 5
"""Slices in one forward pass: one row of them."""


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
    if not settings.weights.endswith(".safetensors"):
        try:
            return models.get_model(settings.network, weights=settings.weights).eval()
        except (KeyError, ValueError) as error:
            names = ", ".join(models.get_model_weights(settings.network).__members__)
            raise InputError(
                f"cam.weights: no '{settings.weights}' of {settings.network}; there are: {names}"
            ) from error
        except OSError as error:
            raise InputError(
                f"cam.weights: torchvision could not download '{settings.weights}' ({error}); "
                "fetch the weights elsewhere and give them as a safetensors file"
            ) from error
    if not Path(settings.weights).is_file():
        raise InputError(
            f"cam.weights: no file {settings.weights}; give a safetensors file of torchvision's {settings.network}, "
            "a torchvision name such as IMAGENET1K_V1, or 'embedded'"
        )
    network = models.get_model(settings.network)
    try:
        network.load_state_dict(load_file(settings.weights), strict=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cam.weights: {settings.weights} does not fit {settings.network}: {error}") from error
    return network.eval()


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
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(f"cam.network: {type(network).__name__} has no linear layer to take class maps from")
        self._network = network.eval()
        self._classifier = linear[-1]
        self._layer = self._find_layer()

    @torch.inference_mode()
    def maps(self, images: Tensor) -> Tensor:
        """Return the feature maps [N, D, h, w] of normalised images [N, 3, H, W]."""
        found: list[Tensor] = []
        handle = self._layer.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        try:
            self._network(images)
        finally:
            handle.remove()
        return found[-1]

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """Return the class responses [K, S] of features [K, D]."""
        return self._classifier(features)

    @torch.inference_mode()
    def _find_layer(self) -> nn.Module:
        outputs: list[tuple[nn.Module, Tensor]] = []
        handles = [
            module.register_forward_hook(lambda module, _inputs, output: outputs.append((module, output)))
            for module in self._network.modules()
        ]
        image = torch.rand(1, 3, 97, 97, generator=torch.Generator().manual_seed(0))
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


def mosf_slices(height: int, width: int) -> NDArray[np.float64]:
    """Return the 15 slices of MOSF: top, left, height and width of each, float64 [15, 4], pixels.

    Slices are height/2 x width/3 with top left corners (height m/4, width n/6), m = 0..2, n = 0..4.
    """
    return np.array(
        [
            (height * m / 4, width * n / 6, height / 2, width / 3)
            for m in range(SLICES_DOWN)
            for n in range(SLICES_ACROSS)
        ]
    )


def nearest_slice(height: int, width: int) -> NDArray[np.int64]:
    """Return the slice whose centre is nearest to each pixel, int64 [H, W]; the first one where several are."""
    slices = mosf_slices(height, width)
    rows = np.arange(height)[:, None, None] + 0.5 - (slices[:, 0] + slices[:, 2] / 2)
    columns = np.arange(width)[None, :, None] + 0.5 - (slices[:, 1] + slices[:, 3] / 2)
    return (rows**2 + columns**2).argmin(axis=2)


@lru_cache(maxsize=4)
def mosf_interpolation(height: int, width: int, cells_down: int, cells_across: int) -> sparse.csr_array:
    """Return the matrix that takes the slices' coarse maps to the frame's pixels.

    Each pixel takes its nearest slice and interpolates bilinearly between that slice's cells, whose outermost centres
    lie on the slice's corners (`align_corners`: with inputs of side 32 k + 1 cell j is centred on pixel 32 j).

    Returns
    -------
    float32 [H*W, 15 * cells_down * cells_across]
        Four weights a row, which sum to 1.
    """
    chosen = nearest_slice(height, width)
    slices = mosf_slices(height, width)[chosen]
    rows, columns = np.indices((height, width))
    down = (rows - slices[..., 0]) / max(height / 2 - 1, 1) * (cells_down - 1)
    across = (columns - slices[..., 1]) / max(width / 3 - 1, 1) * (cells_across - 1)
    down, across = np.clip(down, 0, cells_down - 1), np.clip(across, 0, cells_across - 1)
    top = np.minimum(down.astype(np.int64), max(cells_down - 2, 0))
    left = np.minimum(across.astype(np.int64), max(cells_across - 2, 0))
    cells, weights = [], []
    for below in (0, 1):
        for right in (0, 1):
            row, column = np.minimum(top + below, cells_down - 1), np.minimum(left + right, cells_across - 1)
            cells.append((chosen * cells_down + row) * cells_across + column)
            weights.append(np.abs(1 - below - (down - top)) * np.abs(1 - right - (across - left)))
    pixels = np.tile(np.arange(height * width), 4)
    shape = (height * width, SLICES_DOWN * SLICES_ACROSS * cells_down * cells_across)
    values = np.concatenate([weight.ravel() for weight in weights]).astype(np.float32)
    return sparse.csr_array((values, (pixels, np.concatenate([cell.ravel() for cell in cells]))), shape=shape)


def slice_size(height: int, width: int, slice_height: int) -> tuple[int, int]:
    """Return the size, (32 j + 1, 32 k + 1), to which slices are resized: of `slice_height`, in a slice's shape."""
    slice_width = slice_height * (width / 3) / (height / 2)
    return slice_height, 32 * max(1, round((slice_width - 1) / 32)) + 1


@torch.inference_mode()
def semantic(
    frame: NDArray[np.uint8],
    labels: NDArray[np.int32],
    count: int,
    activation: ClassActivation,
    slice_height: int,
) -> NDArray[np.float32]:
    """Return the semantic feature H of each superpixel by MOSF.

    Parameters
    ----------
    frame
        uint8 [H, W, 3], RGB.
    labels, count
        Superpixels, int32 [H, W], and their number K.
    activation
        The class activation network, of S classes.
    slice_height
        Height to which slices are resized, 32 k + 1.

    Returns
    -------
    float32 [K, S]
        Mean class responses over the superpixel, negative ones clipped at 0; each row sums to 1. (A superpixel without
        any positive response has equal shares.)
    """
    height, width = labels.shape
    image = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    size = slice_size(height, width, slice_height)
    crops = []
    for top, left, slice_rows, slice_columns in mosf_slices(height, width):
        rows = slice(int(top), int(np.ceil(top + slice_rows)))
        columns = slice(int(left), int(np.ceil(left + slice_columns)))
        crop = image[None, :, rows, columns]
        crops.append(nn.functional.interpolate(crop, size, mode="bilinear", align_corners=True))
    batches = torch.cat(crops).split(BATCH)
    maps = torch.cat([activation.maps(batch) for batch in batches])
    cells = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()
    interpolation = mosf_interpolation(height, width, maps.shape[2], maps.shape[3])
    features = (pixel_membership(labels, count) @ interpolation) @ cells
    responses = activation.classify(torch.from_numpy(np.ascontiguousarray(features))).numpy().clip(min=0)
    total = responses.sum(axis=1, keepdims=True)
    return np.where(total > 0, responses / np.maximum(total, 1e-12), 1 / responses.shape[1]).astype(np.float32)
