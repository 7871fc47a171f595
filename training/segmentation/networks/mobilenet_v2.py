"""DeepLab on MobileNetV2, for CPUs and the edge: as DeepLab-v2 stands on a residual network, and with a skip."""

import copy
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

from training.classifiers import dilate
from training.segmentation.networks.base import DeepLab, ParameterGroup, check_output_stride, rate_groups
from training.segmentation.networks.heads import AtrousSpatialPyramid, start_class_layer
from training.segmentation.networks.resize import resize_logits

BACKBONE_FACTOR = 0.3
"""The backbone's learning rate over the head's."""
FINE_BLOCKS = 7
"""Of MobileNetV2 at the start, whose last output, of 32 x width channels, is the deepest at a stride of 8."""
FINE_STRIDE = 8
"""Pixels per cell of what comes out of them."""


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
        check_output_stride(output_stride)
        backbone = copy.deepcopy(classifier.features[:-1])
        dilate(backbone, output_stride)
        last = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)][-1]
        head = AtrousSpatialPyramid(last.out_channels, classes, aspp_rates, seed)
        super().__init__(backbone, head, classes=classes, output_stride=output_stride)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the backbone at 0.3 of the rate and the head at the rate, chosen for AdamW (`make_optimizer`)."""
        backbone = rate_groups(self.backbone.parameters(), weights=BACKBONE_FACTOR, others=BACKBONE_FACTOR)
        return backbone + rate_groups(self.head.parameters(), weights=1, others=1)


class DeepLabMobileNetV2Skip(DeepLabMobileNetV2):
    """The same with a skip: to its logits, interpolated, are added those of finer, shallower features.

    The class layer, 1 x 1, on the features at a stride of 8, and the sum of logits, are FCN's (Long et al., CVPR 2015,
    section 4.2); it starts as DeepLab's class layers do. Small and thin things, and edges, gain.

    Parameters
    ----------
    classifier, classes, output_stride, aspp_rates, seed
        As of `DeepLabMobileNetV2`; the logits' own stride is 8.
    """

    backbone: nn.Sequential

    def __init__(
        self,
        classifier: torchvision.models.MobileNetV2,
        classes: int,
        *,
        output_stride: int = 16,
        aspp_rates: Sequence[int] = (6, 12, 18, 24),
        seed: int = 0,
    ) -> None:
        super().__init__(classifier, classes, output_stride=output_stride, aspp_rates=aspp_rates, seed=seed)
        channels = [module for module in self.backbone[:FINE_BLOCKS].modules() if isinstance(module, nn.Conv2d)]
        self.skip = nn.Conv2d(channels[-1].out_channels, classes, 1)
        start_class_layer(self.skip, torch.Generator().manual_seed(seed))
        self.coarsest_stride = output_stride
        self.output_stride = FINE_STRIDE

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised frames, float [N, 3, H, W], to logits, float [N, classes, h, w], one per 8 pixels."""
        fine = self.backbone[:FINE_BLOCKS](images)
        logits: Tensor = self.skip(fine)
        coarse = self.head(self.backbone[FINE_BLOCKS:](fine))
        height, width = logits.shape[2:]
        return logits + resize_logits(coarse, height, width, self.coarsest_stride // FINE_STRIDE)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return those of `DeepLabMobileNetV2`, and the skip's class layer at the rate."""
        return [*super().parameter_groups(), *rate_groups(self.skip.parameters(), weights=1, others=1)]
