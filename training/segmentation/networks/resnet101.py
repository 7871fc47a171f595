"""DeepLab-v2 on ResNet-101."""

import copy
from collections import OrderedDict
from collections.abc import Sequence

import torchvision
from torch import nn

from training.segmentation.networks.base import DeepLab, ParameterGroup, check_output_stride, rate_groups
from training.segmentation.networks.heads import AtrousSpatialPyramid


class DeepLabResNet101(DeepLab):
    """DeepLab-v2 on ResNet-101 (Chen et al., TPAMI 2017, section 4.1.2), at one scale, up to layer4's 2048 channels.

    layer3 and layer4 keep the grid of layer2 and are dilated by 2 and 4, but in the first block of each by 1 and 2: the
    authors' classifier halves the grid in that block's first convolution, torchvision's in its second, the 3 x 3 one,
    which so still saw the finer grid. In both networks each cell is what their classifier computes there.

    Parameters
    ----------
    classifier
        torchvision's ResNet-101; its weights are copied and it stays as it is.
    classes
        Logits per cell.
    output_stride
        8 as published, or 16, where layer3 halves the grid and layer4 alone is dilated, by 2; pixels per cell.
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
        classifier: torchvision.models.ResNet,
        classes: int,
        *,
        output_stride: int = 8,
        aspp_rates: Sequence[int] = (6, 12, 18, 24),
        seed: int = 0,
    ) -> None:
        check_output_stride(output_stride)
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        layers = OrderedDict((name, copy.deepcopy(getattr(classifier, name))) for name in names)
        for name, dilation in (("layer3", 1), ("layer4", 2)) if output_stride == 8 else (("layer4", 1),):
            _keep_grid(layers[name], dilation)
        head = AtrousSpatialPyramid(classifier.fc.in_features, classes, aspp_rates, seed)
        super().__init__(nn.Sequential(layers), head, classes=classes, output_stride=output_stride)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the published factors: convolutions 1, batch normalisation 0, the pyramid's weights 10, biases 20."""
        backbone = rate_groups(self.backbone.parameters(), weights=1, others=0)
        return backbone + rate_groups(self.head.parameters(), weights=10, others=20)


def _keep_grid(layer: nn.Module, dilation: int) -> None:
    # The first 3 x 3 convolution, which halved the grid, keeps the dilation that came before; the others double it.
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                rate = dilation if module.stride == (2, 2) else 2 * dilation
                module.dilation = module.padding = (rate, rate)
            module.stride = (1, 1)
