"""From a frame to class ids and their confidence.

`Segmenter` is everything between a frame's bytes and its mask as one torch module. `predict` runs it; `training.export`
writes it to the ONNX file. So both compute the same. Where more scales, mirror images or the frame's own resolution are
asked for, `predict` averages probabilities, and large frames are cut into tiles.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from serving.frames import resize_frame, resize_mask
from training.classifiers import DEVIATION, MEAN
from training.segmentation.networks import DeepLab, resize_logits
from training.segmentation.tiles import tiles
from training.settings.learning import PredictionSettings


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


def predict(
    network: DeepLab,
    frame: NDArray[np.uint8],
    input_size: tuple[int, int],
    settings: PredictionSettings | None = None,
) -> Prediction:
    """Segment a frame of any size.

    Parameters
    ----------
    network
        On any device; put into evaluation mode.
    frame
        uint8 [H, W, 3], RGB.
    input_size
        Height and width that the frame is resized to for the network, pixels; the masks are resized back.
    settings
        Resolution, scales, mirror images and tiles. None, and the defaults alike, do exactly what the exported file
        behind `serving.model` does.

    Returns
    -------
    Prediction
        Masks of the frame's own size.

    Raises
    ------
    InputError
        If the tiles would be too small for their overlap.
    """
    with torch.inference_mode():
        if settings is not None and (settings.resolution == "frame" or settings.scales != (1.0,) or settings.flip):
            return _averaged(network, frame, input_size, settings)
        segmenter = Segmenter(network, input_size)
        pixels = torch.from_numpy(np.array(resize_frame(frame, *input_size))[None]).to(segmenter.mean.device)
        class_ids, confidence = (mask[0].cpu().numpy() for mask in segmenter(pixels))
    height, width = frame.shape[:2]
    return Prediction(resize_mask(class_ids, height, width), resize_mask(confidence, height, width))


def class_probabilities(network: DeepLab, frame: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the probability of each class at each pixel of a frame uint8 [H, W, 3], float32 [C, H, W]."""
    with torch.inference_mode():
        resized = np.array(resize_frame(frame, *input_size))
        return _probabilities(network, resized, (frame.shape[0], frame.shape[1])).cpu().numpy()


def _averaged(
    network: DeepLab, frame: NDArray[np.uint8], input_size: tuple[int, int], settings: PredictionSettings
) -> Prediction:
    """Segment a frame by the mean of the softmax probabilities of all scales and mirror images, tile by tile."""
    height, width = frame.shape[:2]
    base = input_size if settings.resolution == "input" else (height, width)
    zooms = [(scale * base[0] / height, scale * base[1] / width) for scale in settings.scales]
    most_pixels = int(settings.tile_pixels / max(1.0, *(down * across for down, across in zooms)))
    answer = Prediction(np.empty((height, width), np.uint8), np.empty((height, width), np.uint8))
    for tile in tiles(height, width, most_pixels, settings.tile_overlap, network.coarsest_stride):
        seen = frame[tile.seen]
        size = seen.shape[0], seen.shape[1]
        total = torch.zeros(network.classes, *size, device=next(network.parameters()).device)
        for down, across in zooms:
            scaled = resize_frame(seen, max(1, round(down * size[0])), max(1, round(across * size[1])))
            total += _probabilities(network, scaled, size)
            if settings.flip:
                total += _probabilities(network, scaled[:, ::-1], size).flip(2)
        largest, class_ids = total.max(dim=0)
        confidence = (255 / (len(zooms) * (2 if settings.flip else 1)) * largest).round()
        answer.class_ids[tile.part] = class_ids.to(torch.uint8).cpu().numpy()[tile.inner]
        answer.confidence[tile.part] = confidence.to(torch.uint8).cpu().numpy()[tile.inner]
    return answer


def _probabilities(network: DeepLab, frame: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Return the softmax probabilities of a frame's logits, interpolated to `size`, float32 [C, *size]."""
    segmenter = Segmenter(network, (frame.shape[0], frame.shape[1]))
    logits = segmenter.logits(torch.from_numpy(frame[None].copy()).to(segmenter.mean.device))
    if logits.shape[2:] != size:
        logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits[0].softmax(dim=0)
