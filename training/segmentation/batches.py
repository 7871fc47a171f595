"""Batches of augmented crops: random scale, crop, horizontal flip, mild colour jitter, and ClassMix.

A crop depends on nothing but (seed, round, its position in the training), so that a training which was stopped goes on
with exactly the crops that it would have seen, and several processes share a batch as one would see it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.frames import resize_frame, resize_mask
from training.classifiers import DEVIATION, MEAN
from training.datasets.base import Frame, Labels
from training.settings.learning import TrainerSettings
from training.taxonomy import IGNORED


class SoftLabels(NamedTuple):
    """The class distributions of a frame, one for each of its K superpixels."""

    regions: NDArray[np.int32]
    """The superpixel of each pixel, int32 [H, W], 0..K-1; any where the label is ignored."""
    distributions: NDArray[np.float32]
    """float32 [K, C]; a row sums to 1."""


class Sample(NamedTuple):
    """A frame to learn from."""

    frame: Frame
    """uint8 [H, W, 3], RGB."""
    labels: Labels
    """uint8 [H, W], class ids, 255 ignored."""
    confidence: NDArray[np.uint8] | None = None
    """255 x what each label is sure of, uint8 [H, W]; None where all are."""
    soft: SoftLabels | None = None
    """What each pixel may be; None where it is what its label says."""


Load = Callable[[str], Sample]
"""Answers a frame and its labels by identifier. Called from several threads."""

_LOADERS = 4
"""Threads that make batches, one each: decoding takes longer than a GPU's update."""
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
    confidence: Tensor
    """What each label is sure of, float32 [N, h, w] in [0, 1]."""
    distributions: Tensor | None
    """How likely each class is, float32 [N, C, h, w]; None without soft labels."""


def make_batch(
    load: Load,
    frame_ids: Sequence[str],
    settings: TrainerSettings,
    *,
    seed: int,
    round_number: int,
    update: int,
    share: tuple[int, int] = (0, 1),
) -> Batch:
    """Return a process's share of the batch of an update, a pure function of its arguments.

    Parameters
    ----------
    load
        Reads a frame and its labels.
    frame_ids
        The training frames; `chosen_frames` says which the update has.
    settings
        `batch`, `crop`, `scales` and `class_mix` are used.
    seed, round_number, update
        All >= 0.
    share
        Number of the process, from 0, and of all processes; they must divide `batch`.
    """
    crops: dict[int, Sample] = {}
    first = update * settings.batch
    chosen = chosen_frames(frame_ids, settings.batch, seed=seed, round_number=round_number, update=update)

    def crop(position: int) -> Sample:
        if position not in crops:
            rng = np.random.default_rng(np.random.SeedSequence((seed, round_number, 0, position)))
            crops[position] = augment(load(chosen[position - first]), settings, rng)
        return crops[position]

    number, processes = share
    size = settings.batch // processes
    positions = range(first + number * size, first + (number + 1) * size)
    samples = []
    for position in positions:
        rng = np.random.default_rng(np.random.SeedSequence((seed, round_number, 2, position)))
        sample = crop(position)
        if rng.random() < settings.class_mix:
            sample = class_mix(crop(first + (position + 1 - first) % settings.batch), sample, rng)
        samples.append(sample)
    confidence = [np.full(one.labels.shape, 255) if one.confidence is None else one.confidence for one in samples]
    soft = [one.soft.distributions.T[:, one.soft.regions] for one in samples if one.soft is not None]
    return Batch(
        torch.from_numpy(normalise(np.stack([one.frame for one in samples]))).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([one.labels for one in samples])).long(),
        torch.from_numpy(np.stack(confidence)).float() / 255,
        torch.from_numpy(np.stack(soft)) if soft else None,
    )


def chosen_frames(
    frame_ids: Sequence[str], batch: int, *, seed: int, round_number: int, update: int
) -> tuple[str, ...]:
    """Return the frame of each crop of an update's whole batch: frames come in a new random order in each pass."""

    def frame_of(position: int) -> str:
        epoch, index = divmod(position, len(frame_ids))
        shuffle = np.random.default_rng(np.random.SeedSequence((seed, round_number, 1, epoch)))
        return frame_ids[shuffle.permutation(len(frame_ids))[index]]

    return tuple(frame_of(update * batch + place) for place in range(batch))


def class_mix(source: Sample, target: Sample, rng: np.random.Generator) -> Sample:
    """Return `target` with half of the labelled classes of `source`, chosen at random, pasted over it.

    Parameters
    ----------
    source, target
        Crops of one size.
    rng
        The source of the choice.

    References
    ----------
    V. Olsson et al., ClassMix: segmentation-based data augmentation for semi-supervised learning, WACV 2021.
    """
    classes = np.setdiff1d(np.unique(source.labels), IGNORED)
    pasted = np.isin(source.labels, rng.permutation(classes)[: -(-len(classes) // 2)])
    confidence, soft = None, None
    if source.confidence is not None and target.confidence is not None:
        confidence = np.where(pasted, source.confidence, target.confidence)
    if source.soft is not None and target.soft is not None:
        behind = target.soft.regions + len(source.soft.distributions)
        both = np.concatenate([source.soft.distributions, target.soft.distributions])
        soft = SoftLabels(np.where(pasted, source.soft.regions, behind), both)
    return Sample(
        np.where(pasted[..., None], source.frame, target.frame),
        np.where(pasted, source.labels, target.labels),
        confidence,
        soft,
    )


def resized(sample: Sample, height: int, width: int) -> Sample:
    """Bring a frame and what is known of it to a size as the exported model does, so that scale 1 is what it sees."""
    if sample.labels.shape == (height, width):
        return sample
    confidence, soft = sample.confidence, sample.soft
    return Sample(
        resize_frame(sample.frame, height, width),
        resize_mask(sample.labels, height, width),
        None if confidence is None else resize_mask(confidence, height, width),
        None if soft is None else SoftLabels(resize_mask(soft.regions, height, width), soft.distributions),
    )


def augment(sample: Sample, settings: TrainerSettings, rng: np.random.Generator) -> Sample:
    """Cut a random crop from a frame.

    Where the scaled frame is smaller than the crop, it lies at a random place in it and the rest is the mean colour,
    ignored.

    Parameters
    ----------
    sample
        A frame, uint8 [H, W, 3], and what is known of its labels.
    settings
        `crop` and `scales` are used.
    rng
        The source of all choices.

    Returns
    -------
    Sample
        Of the crop's size [h, w].
    """
    height, width = settings.crop
    scale = np.exp(rng.uniform(*np.log(settings.scales)))
    room = np.array([scale * sample.frame.shape[1] - width, scale * sample.frame.shape[0] - height])
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

    def cut(pixels: NDArray[Any], interpolation: int, beyond: Sequence[float]) -> NDArray[Any]:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(pixels, matrix, (width, height), flags=flags, borderValue=beyond))

    confidence, soft = sample.confidence, sample.soft
    if soft is not None:
        # OpenCV warps no int32; a float32 holds every superpixel's number below 2^24.
        regions = cut(soft.regions.astype(np.float32), cv2.INTER_NEAREST, [0]).astype(np.int32)
        soft = SoftLabels(regions, soft.distributions)
    return Sample(
        _jitter(cut(sample.frame, cv2.INTER_LINEAR, [255 * value for value in MEAN]), rng),
        cut(sample.labels, cv2.INTER_NEAREST, [IGNORED]),
        None if confidence is None else cut(confidence, cv2.INTER_NEAREST, [0]),
        soft,
    )


def normalise(image: NDArray[Any]) -> NDArray[np.float32]:
    """Bring colours in [0, 255], [..., 3], to what ImageNet's classifiers were trained on, float32."""
    return np.asarray((image / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32), np.float32)


def prepared(
    load: Load,
    frame_ids: Sequence[str],
    settings: TrainerSettings,
    *,
    seed: int,
    round_number: int,
    updates: range,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield the batches of `updates` in order; other threads make the next ones while the caller works on one."""

    def make(update: int) -> Batch:
        return make_batch(load, frame_ids, settings, seed=seed, round_number=round_number, update=update, share=share)

    with ThreadPoolExecutor(_LOADERS, thread_name_prefix="batches") as executor:
        pending: deque[Future[Batch]] = deque()
        try:
            for update in updates:
                pending.append(executor.submit(make, update))
                if len(pending) > _LOADERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)  # where the caller has had enough


def _jitter(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    brightness, contrast, saturation = rng.uniform(1 - _JITTER, 1 + _JITTER, 3).astype(np.float32)
    colours = image.astype(np.float32) * brightness
    grey = (colours @ np.array(_LUMA, np.float32))[..., None]
    colours = grey + (colours - grey) * saturation
    level = grey.mean()
    return np.round(np.clip(level + (colours - level) * contrast, 0, 255)).astype(np.uint8)
