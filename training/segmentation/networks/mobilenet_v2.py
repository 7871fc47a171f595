"""DeepLab on MobileNetV2: the network for CPUs and the edge, and the default."""

import copy
from collections.abc import Sequence

import torchvision
from torch import nn

from training.segmentation.networks.base import DeepLab, ParameterGroup, check_output_stride, rate_groups
from training.segmentation.networks.dilation import dilate
from training.segmentation.networks.heads import AtrousSpatialPyramid

BACKBONE_FACTOR = 0.3
"""The backbone's learning rate over the head's."""


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
