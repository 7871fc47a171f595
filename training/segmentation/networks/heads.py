"""What stands on a backbone: parallel branches of different dilation, whose logits are summed (Chen et al., "DeepLab",
TPAMI 2017, section 3.2 and figure 7).

Class layers start from a normal distribution of deviation 0.01, biases 0, as the authors' do.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Branches that see the same features; the sum of their logits is the answer.

    Parameters
    ----------
    branches
        Each maps float [N, channels, h, w] to logits, float [N, classes, h, w]; at least one.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """Map features, float [N, channels, h, w], to logits, float [N, classes, h, w]."""
        logits: Tensor = self.branches[0](features)
        for branch in self.branches[1:]:
            logits = logits + branch(features)
        return logits


class AtrousSpatialPyramid(Branches):
    """The pyramid of DeepLab-v2 on a residual network: dilated 3 x 3 convolutions straight to class logits.

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
        generator = torch.Generator().manual_seed(seed)
        branches = [nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate) for rate in rates]
        for branch in branches:
            start_class_layer(branch, generator)
        super().__init__(branches)


class FullyConnectedPyramid(Branches):
    """The head of DeepLab on VGG-16: in each branch the classifier's fully connected layers as convolutions.

    fc6, 3 x 3 and dilated by the branch's rate, and fc7, 1 x 1, have `width` channels, a rectifier and dropout of 0.5
    each; fc8, 1 x 1, gives the classes. One branch of rate 12 is LargeFOV; rates 6, 12, 18, 24 are ASPP-L.

    All branches start from the same fc6 and fc7, those of the ImageNet classifier, thinned out as the authors describe
    for their initial model (ICLR 2015, section 4.1: fewer filters, "simple decimation" of the first layer in space):
    of fc6, [4096, 512, 7, 7], every 4th filter and in space the positions 0, 3, 6 of each axis, [1024, 512, 3, 3]; of
    fc7, [4096, 4096], every 4th row and column, [1024, 1024, 1, 1]; of their biases every 4th. Which filters the
    authors kept is not published; every 4th is what the reimplementations take. The values are not rescaled.

    Parameters
    ----------
    first, second
        The classifier's fc6, which sees 7 x 7 cells, and fc7; their weights are copied.
    channels
        Of the features.
    classes
        Logits per cell.
    rates
        Dilations of fc6 in each branch, in cells.
    seed
        Of fc8's initial weights.
    """

    THINNING = 4
    """One of so many filters is kept."""
    SIDE = 7
    """Cells of the classifier's fc6 along an axis."""
    SPACING = 3
    """Between the cells that are kept: 0, 3, 6."""

    def __init__(
        self, first: nn.Linear, second: nn.Linear, *, channels: int, classes: int, rates: Sequence[int], seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        thin, near = slice(None, None, self.THINNING), slice(None, None, self.SPACING)
        kernels = first.weight.detach().unflatten(1, (channels, self.SIDE, self.SIDE))[thin, :, near, near]
        links = second.weight.detach()[thin, thin, None, None]
        branches = []
        for rate in rates:
            fc6 = nn.Conv2d(channels, kernels.shape[0], kernels.shape[2], padding=rate, dilation=rate)
            fc7 = nn.Conv2d(links.shape[1], links.shape[0], 1)
            fc8 = nn.Conv2d(links.shape[0], classes, 1)
            with torch.no_grad():
                for layer, weight, linear in ((fc6, kernels, first), (fc7, links, second)):
                    layer.weight.copy_(weight)
                    cast(Tensor, layer.bias).copy_(linear.bias[thin])
            start_class_layer(fc8, generator)
            branches.append(
                nn.Sequential(fc6, nn.ReLU(inplace=True), nn.Dropout(), fc7, nn.ReLU(inplace=True), nn.Dropout(), fc8)
            )
        super().__init__(branches)

    def class_layers(self) -> Iterator[nn.Module]:
        """Return each branch's fc8."""
        for branch in self.branches:
            yield cast(nn.Sequential, branch)[-1]


def start_class_layer(layer: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw a class layer's initial weights, in place: deviation 0.01, biases 0."""
    nn.init.normal_(layer.weight, std=0.01, generator=generator)
    nn.init.constant_(cast(Tensor, layer.bias), 0)
