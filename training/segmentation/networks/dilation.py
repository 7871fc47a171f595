"""Dilation in place of strides: a classifier's backbone on a finer grid, with the weights that it has."""

from torch import nn


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
