"""DeepLab on VGG-16, as in the authors' prototxt: with LargeFOV, and with an atrous spatial pyramid (DeepLab-v2)."""

import copy
from collections.abc import Sequence

import torchvision
from torch import nn

from training.segmentation.networks.base import DeepLab, ParameterGroup, check_output_stride, rate_groups
from training.segmentation.networks.heads import FullyConnectedPyramid


class DeepLabVGG16(DeepLab):
    """DeepLab on VGG-16 (Chen et al., ICLR 2015 and TPAMI 2017): pool4 and pool5 keep the grid, conv5 is dilated by 2.

    Every pooling is 3 x 3 with a padding of 1, where VGG's own is 2 x 2: so cell j is centred on pixel j x stride. The
    kernels are VGG's. Frames of 32 k + 1 pixels give the grids of Caffe; others ceil(H / stride) cells, where Caffe,
    which rounds up, may have one more.

    Parameters
    ----------
    classifier
        torchvision's VGG-16 without batch normalisation; its weights are copied and it stays as it is.
    classes
        Logits per cell.
    output_stride
        8 as published, or 16, where pool4 halves the grid and conv5 needs no dilation; pixels per cell.
    aspp_rates
        Dilations of fc6 in each branch, in cells.
    seed
        Of fc8's initial weights.

    Raises
    ------
    ValueError
        If the output stride is neither 8 nor 16.
    """

    AVERAGED = False
    """Whether a 3 x 3 mean (pool5a) precedes fc6."""

    def __init__(
        self,
        classifier: torchvision.models.VGG,
        classes: int,
        *,
        output_stride: int = 8,
        aspp_rates: Sequence[int] = (6, 12, 18, 24),
        seed: int = 0,
    ) -> None:
        check_output_stride(output_stride)
        stride = dilation = 1
        layers: list[nn.Module] = []
        for module in copy.deepcopy(classifier.features):
            if isinstance(module, nn.MaxPool2d):
                halves = stride < output_stride
                layers.append(nn.MaxPool2d(3, 2 if halves else 1, padding=1))
                stride, dilation = (2 * stride, dilation) if halves else (stride, 2 * dilation)
                continue
            if isinstance(module, nn.Conv2d):
                module.dilation = module.padding = (dilation, dilation)
            layers.append(module)
        if self.AVERAGED:
            layers.append(nn.AvgPool2d(3, 1, padding=1))
        first, second, _ = (module for module in classifier.classifier if isinstance(module, nn.Linear))
        head = FullyConnectedPyramid(first, second, channels=512, classes=classes, rates=aspp_rates, seed=seed)
        super().__init__(nn.Sequential(*layers), head, classes=classes, output_stride=output_stride)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return the published factors: weights 1, biases 2, of the class layers 10 and 20; biases do not decay."""
        assert isinstance(self.head, FullyConnectedPyramid)
        last = [parameter for layer in self.head.class_layers() for parameter in layer.parameters()]
        ids = {id(parameter) for parameter in last}
        earlier = (parameter for parameter in self.parameters() if id(parameter) not in ids)
        return rate_groups(earlier, weights=1, others=2) + rate_groups(last, weights=10, others=20)


class DeepLabVGG16LargeFOV(DeepLabVGG16):
    """DeepLab-LargeFOV: one branch whose fc6 is dilated by 12, behind a 3 x 3 mean (pool5a).

    Parameters
    ----------
    classifier, classes, output_stride, seed
        As of `DeepLabVGG16`.
    aspp_rates
        The one dilation of fc6, in cells.

    Raises
    ------
    ValueError
        If there is not one rate, or the output stride is neither 8 nor 16.
    """

    AVERAGED = True

    def __init__(
        self,
        classifier: torchvision.models.VGG,
        classes: int,
        *,
        output_stride: int = 8,
        aspp_rates: Sequence[int] = (12,),
        seed: int = 0,
    ) -> None:
        if len(aspp_rates) != 1:
            raise ValueError(f"LargeFOV has one rate, got {tuple(aspp_rates)}")
        super().__init__(classifier, classes, output_stride=output_stride, aspp_rates=aspp_rates, seed=seed)
