"""The segmentation networks: DeepLab, that is a dilated classifier under an atrous spatial pyramid.

A network maps normalised frames to logits on a coarse grid of cells, one every `output_stride` pixels. `resize_logits`
is the only way from there to pixels: the trainer's loss, `prediction` and the exported graph all go through it.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's red, green, blue in [0, 1]; what torchvision's classifiers are given."""
DEVIATION = (0.229, 0.224, 0.225)
"""Standard deviation, likewise."""


class AtrousSpatialPyramid(nn.Module):
    """DeepLab-v2's head: parallel dilated 3 x 3 convolutions straight to class logits, summed.

    Initialised from a normal distribution of deviation 0.01, biases 0, as its authors do (Chen et al., "DeepLab",
    TPAMI 2017).

    Parameters
    ----------
    channels
        Of the features.
    classes
        Logits per cell.
    rates
        Dilations of the branches, in cells.
    seed
        Of the initial weights.
    """

    def __init__(self, channels: int, classes: int, rates: Sequence[int], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.branches = nn.ModuleList()
        for rate in rates:
            branch = nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate)
            nn.init.normal_(branch.weight, std=0.01, generator=generator)
            nn.init.constant_(cast(Tensor, branch.bias), 0)
            self.branches.append(branch)

    def forward(self, features: Tensor) -> Tensor:
        """Map features, float [N, channels, h, w], to logits, float [N, classes, h, w]."""
        logits: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            logits = logits + branch(features)
        return logits


class DeepLab(nn.Module):
    """A backbone that keeps a fine grid, and the pyramid on top of it.

    Batch normalisation always works with its stored statistics, in training too: batches of a few crops measure them
    badly. Its scale and shift do learn. `trainer.recalibrate` measures the statistics anew where the given ones do
    not fit.

    Parameters
    ----------
    backbone
        Maps float [N, 3, H, W] to float [N, channels, ceil(H / output_stride), ceil(W / output_stride)], cell (i, j)
        centred on pixel (i, j) x output_stride.
    channels
        Of the backbone's output.
    classes
        Logits per cell.
    output_stride
        Pixels per cell.
    aspp_rates
        Dilations of the pyramid's branches, in cells.
    seed
        Of the head's initial weights.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        channels: int,
        classes: int,
        output_stride: int,
        aspp_rates: Sequence[int],
        seed: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = AtrousSpatialPyramid(channels, classes, aspp_rates, seed)
        self.classes = classes
        self.output_stride = output_stride

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised frames, float [N, 3, H, W], to logits, float [N, classes, h, w], one per cell."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def train(self, mode: bool = True) -> "DeepLab":
        """Set the mode of all modules but batch normalisation, which stays in evaluation mode."""
        super().train(mode)
        for module in self.batch_norms():
            module.eval()
        return self

    def batch_norms(self) -> list[nn.BatchNorm2d]:
        """Return the batch normalisations, in the order of `modules`."""
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]


class DeepLabMobileNetV2(DeepLab):
    """DeepLab on MobileNetV2 (Sandler et al., 2018), up to its last block of 320 x width channels.

    Parameters
    ----------
    classifier
        A torchvision MobileNetV2 of any width; its weights are copied and it stays as it is.
    classes
        Logits per cell.
    output_stride
        8 or 16, pixels per cell.
    aspp_rates
        Dilations of the pyramid's branches, in cells.
    seed
        Of the head's initial weights.

    Raises
    ------
    ValueError
        If the output stride is neither 8 nor 16.
    """

    def __init__(
        self,
        classifier: torchvision.models.MobileNetV2,
        classes: int,
        *,
        output_stride: int = 16,
        aspp_rates: Sequence[int] = (6, 12, 18, 24),
        seed: int = 0,
    ) -> None:
        if output_stride not in (8, 16):
            raise ValueError(f"output_stride must be 8 or 16, got {output_stride}")
        backbone = copy.deepcopy(classifier.features[:-1])
        dilate(backbone, output_stride)
        last = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)][-1]
        super().__init__(
            backbone,
            channels=last.out_channels,
            classes=classes,
            output_stride=output_stride,
            aspp_rates=aspp_rates,
            seed=seed,
        )


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


def resize_logits(logits: Tensor, height: int, width: int, output_stride: int) -> Tensor:
    """Interpolate logits between cells to every pixel, bilinearly.

    Cell j is centred on pixel j x output_stride, where the backbone's padded convolutions put it. For sides of
    32 k + 1 this is `interpolate(align_corners=True)`; for all others that would stretch the map by up to one cell,
    while here the pixels beyond the last cell's centre repeat that cell. It is two matrix products, so that the
    gradient is the same in each run on every device.

    Parameters
    ----------
    logits
        Float [N, C, h, w].
    height, width
        The frame's size, pixels; h = ceil(height / output_stride), likewise w.
    output_stride
        Pixels per cell.

    Returns
    -------
    Tensor
        float32 [N, C, height, width].
    """
    rows = _interpolation(logits.shape[2], height, output_stride).to(logits.device)
    columns = _interpolation(logits.shape[3], width, output_stride).to(logits.device)
    return rows @ (logits.float() @ columns.T)


def _interpolation(cells: int, pixels: int, stride: int) -> Tensor:
    # float32 [pixels, cells]: each row holds the weights of the one or two cells around a pixel.
    position = (torch.arange(pixels) / stride).clamp(max=cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)
