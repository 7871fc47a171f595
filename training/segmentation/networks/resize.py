"""From logits of coarse cells to logits of pixels: the only way there, for loss, prediction and the exported graph."""

import torch
from torch import Tensor


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
