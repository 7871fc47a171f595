"""From a frame to class ids and their confidence.

`Segmenter` is everything between a frame's bytes and its mask as one torch module. `predict` runs it; `training.export`
writes it to the ONNX file. So both compute the same.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.frames import resize_frame, resize_mask
from training.segmentation.networks import DEVIATION, MEAN, DeepLab, resize_logits


class Prediction(NamedTuple):
    """The answer for one frame."""

    class_ids: NDArray[np.uint8]
    """uint8 [H, W], 0 to C - 1."""
    confidence: NDArray[np.uint8]
    """255 x the winning class's probability, rounded, uint8 [H, W]."""


class Segmenter(nn.Module):
    """A network between normalisation and argmax, in evaluation mode.

    Parameters
    ----------
    network
        Put into evaluation mode.
    input_size
        Height and width of the frames it takes, pixels.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: DeepLab, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        device = next(network.parameters()).device
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, 255 * torch.tensor(values, device=device).view(1, 3, 1, 1))
        self.eval()

    def logits(self, frames: Tensor) -> Tensor:
        """Return the logits of every pixel, float32 [N, C, H, W], of frames uint8 [N, H, W, 3]."""
        images = (frames.permute(0, 3, 1, 2).float() - self.mean) / self.deviation
        return resize_logits(self.network(images), *self.input_size, self.network.output_stride)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Segment frames.

        Parameters
        ----------
        frames
            uint8 [N, H, W, 3], RGB.

        Returns
        -------
        class_ids
            uint8 [N, H, W].
        confidence
            255 x the winning class's probability, rounded, uint8 [N, H, W].
        """
        logits = self.logits(frames)
        # topk, not max: ONNX Runtime answers both in one pass. The winner's softmax alone is 1 / sum(exp(l - max)).
        largest, class_ids = logits.topk(1, dim=1)
        probability = 1 / (logits - largest).exp().sum(dim=1)
        return class_ids[:, 0].to(torch.uint8), (255 * probability).round().to(torch.uint8)


def predict(network: DeepLab, frame: NDArray[np.uint8], input_size: tuple[int, int]) -> Prediction:
    """Segment a frame of any size, exactly as the exported file behind `serving.model` does.

    Parameters
    ----------
    network
        On any device; put into evaluation mode.
    frame
        uint8 [H, W, 3], RGB.
    input_size
        Height and width that the frame is resized to for the network, pixels; the masks are resized back.

    Returns
    -------
    Prediction
        Masks of the frame's own size.
    """
    segmenter = Segmenter(network, input_size)
    pixels = torch.from_numpy(np.array(resize_frame(frame, *input_size))[None]).to(segmenter.mean.device)
    with torch.inference_mode():
        class_ids, confidence = (mask[0].cpu().numpy() for mask in segmenter(pixels))
    height, width = frame.shape[:2]
    return Prediction(resize_mask(class_ids, height, width), resize_mask(confidence, height, width))
