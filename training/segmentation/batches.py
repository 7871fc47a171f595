"""Batches of augmented crops: random scale, crop, horizontal flip and mild colour jitter.

The batch of an update depends on nothing but (seed, round, update), so that a training which was stopped goes on with
exactly the batches that it would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.base import Frame, Labels
from training.segmentation.networks import DEVIATION, MEAN
from training.settings import TrainerSettings
from training.taxonomy import IGNORED

Load = Callable[[str], tuple[Frame, Labels]]
"""Answers a frame, uint8 [H, W, 3], and its labels, uint8 [H, W], 255 ignored. Called from another thread."""

_JITTER = 0.2
"""Brightness, contrast and saturation are each multiplied by 1 +- this at most."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


class Batch(NamedTuple):
    """What one update learns from."""

    images: Tensor
    """Normalised crops, float32 [N, 3, h, w]."""
    labels: Tensor
    """Class ids, int64 [N, h, w], 255 ignored."""
    frame_ids: tuple[str, ...]
    """The frame of each crop."""


def make_batch(
    load: Load, frame_ids: Sequence[str], settings: TrainerSettings, *, seed: int, round_number: int, update: int
) -> Batch:
    """Return the batch of an update, a pure function of its arguments.

    Frames come in a new random order in each pass over them.

    Parameters
    ----------
    load
        Reads a frame and its labels.
    frame_ids
        The training frames.
    settings
        `batch`, `crop` and `scales` are used.
    seed, round_number, update
        All >= 0.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, round_number, 0, update)))
    chosen, images, labels = [], [], []
    for position in range(update * settings.batch, (update + 1) * settings.batch):
        epoch, index = divmod(position, len(frame_ids))
        shuffle = np.random.default_rng(np.random.SeedSequence((seed, round_number, 1, epoch)))
        chosen.append(frame_ids[shuffle.permutation(len(frame_ids))[index]])
        crop, crop_labels = augment(*load(chosen[-1]), settings, rng)
        images.append(crop)
        labels.append(crop_labels)
    return Batch(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack(labels)).long(),
        tuple(chosen),
    )


def augment(
    frame: Frame, labels: Labels, settings: TrainerSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Labels]:
    """Cut a random crop from a frame.

    Where the scaled frame is smaller than the crop, it lies at a random place in it and the rest is the mean colour,
    ignored.

    Parameters
    ----------
    frame
        uint8 [H, W, 3].
    labels
        uint8 [H, W].
    settings
        `crop` and `scales` are used.
    rng
        The source of all choices.

    Returns
    -------
    crop
        Normalised, float32 [h, w, 3].
    labels
        uint8 [h, w], 255 ignored.
    """
    height, width = settings.crop
    scale = np.exp(rng.uniform(*np.log(settings.scales)))
    room = np.array([scale * frame.shape[1] - width, scale * frame.shape[0] - height])
    left, top = np.trunc(rng.uniform(np.minimum(room, 0), np.maximum(room, 0)))
    flip = rng.random() < 0.5
    # From a pixel of the crop to a pixel of the frame: (x, y) -> ((x + left) / scale, (y + top) / scale), centres at
    # half; a flip reads the crop's columns from right to left.
    sign, start = (-1, width - 1) if flip else (1, 0)
    matrix = np.array(
        [
            [sign / scale, 0, (start + left + 0.5) / scale - 0.5],
            [0, 1 / scale, (top + 0.5) / scale - 0.5],
        ]
    )
    size, inverse = (width, height), cv2.WARP_INVERSE_MAP
    mean = tuple(255 * value for value in MEAN)
    image = cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR | inverse, borderValue=mean)
    cut = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST | inverse, borderValue=IGNORED)
    return normalise(_jitter(np.asarray(image, np.uint8), rng)), np.asarray(cut, np.uint8)


def normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring colours in [0, 255], float32 [..., 3], to what ImageNet's classifiers were trained on, float32."""
    return np.asarray((image / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32), np.float32)


def prepared(
    load: Load, frame_ids: Sequence[str], settings: TrainerSettings, *, seed: int, round_number: int, updates: range
) -> Iterator[Batch]:
    """Yield the batches of `updates`; the next one is made in another thread while the caller works on one."""

    def make(update: int) -> Batch:
        return make_batch(load, frame_ids, settings, seed=seed, round_number=round_number, update=update)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as executor:
        pending: Future[Batch] | None = None
        for update in updates:
            following = executor.submit(make, update)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def _jitter(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    brightness, contrast, saturation = rng.uniform(1 - _JITTER, 1 + _JITTER, 3).astype(np.float32)
    colours = image.astype(np.float32) * brightness
    grey = (colours @ np.array(_LUMA, np.float32))[..., None]
    colours = grey + (colours - grey) * saturation
    level = grey.mean()
    return np.clip(level + (colours - level) * contrast, 0, 255)
