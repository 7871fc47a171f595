"""Gates that compare a candidate with the champion on the same frames.

With labels: class mean IoU by a paired bootstrap over the frames, and each class by itself. Without: the annotated
pixels, the agreement with the champion, and what becomes of the champion's classes. Time is measured turn by turn in
one process, so that what else the machine does falls on both.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.errors import InputError
from serving.model import Model
from serving.shadow import SHADOW_TAG
from training.annotations.pixels import PixelFile
from training.datasets import Dataset
from training.evaluation.metrics import ConfusionMatrix
from training.promotion.gate import Gate
from training.settings.promotion import PromotionSettings

RESAMPLES = 2000
"""Of the paired bootstrap (Efron and Tibshirani, 1993)."""
LOWER = 5.0
"""Percentile of the resampled differences: the lower 95 % bound, one-sided."""
TURNS = 9
"""Inferences of each model whose time is compared."""


def accuracy(
    model: Model, champion: Model, frames: Dataset, frame_ids: Sequence[str], limits: PromotionSettings
) -> Iterator[Gate]:
    """Ask whether the candidate is as good as the champion: gates `miou` and `class_iou`."""
    mine, theirs = (_counts(one, frames, frame_ids) for one in (model, champion))
    if not mine.any():
        raise InputError(f"the labels of the {len(frame_ids)} gate frames of '{frames.split}' are all ignored")
    difference, bound = paired_bootstrap(mine, theirs)
    yield Gate(
        "miou",
        bound > -limits.most_miou_loss,
        bound,
        -limits.most_miou_loss,
        f"class mIoU {difference:+.2%} on {len(frame_ids)} frames of '{frames.split}', lower 95 % bound {bound:+.2%}, "
        f"must be above {-limits.most_miou_loss:.2%}",
    )
    total = mine.sum(axis=(0, 2))
    common = (total > 0) & (total >= limits.least_class_share * total.sum())
    if not common.any():
        yield Gate("class_iou", None, None, -limits.most_class_loss, "each class is too rare to be judged by itself")
        return
    change = np.where(common, class_iou(mine.sum(axis=0)) - class_iou(theirs.sum(axis=0)), np.nan)
    worst = int(np.nanargmin(change))
    yield Gate(
        "class_iou",
        bool(change[worst] >= -limits.most_class_loss),
        float(change[worst]),
        -limits.most_class_loss,
        f"{_of_worst(frames.taxonomy.names[worst], change[worst])}; {-limits.most_class_loss:.2%} is allowed",
    )


def paired_bootstrap(mine: NDArray[np.int64], theirs: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Compare two class mean IoUs over the same frames.

    Parameters
    ----------
    mine, theirs
        Confusion counts of each frame, int64 [F, C, C + 1], of the same frames in the same order.
    seed
        Of the resampling.

    Returns
    -------
    difference
        Mine less theirs over all frames.
    bound
        The lower 95 % bound (one-sided) of the difference, by resampling frames, both models' together.
    """
    frames = len(mine)
    drawn = np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), RESAMPLES)
    shape = (RESAMPLES, *mine.shape[1:])
    differences = np.nanmean(class_iou((drawn @ mine.reshape(frames, -1)).reshape(shape)), axis=-1) - np.nanmean(
        class_iou((drawn @ theirs.reshape(frames, -1)).reshape(shape)), axis=-1
    )
    whole = float(np.nanmean(class_iou(mine.sum(axis=0))) - np.nanmean(class_iou(theirs.sum(axis=0))))
    return whole, float(np.percentile(differences, LOWER))


def class_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return class IoUs, float64 [..., C], of confusion counts int64 [..., C, C + 1]; NaN where undefined."""
    hits = np.diagonal(counts[..., :-1], axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts[..., :-1].sum(axis=-2) - hits
    with np.errstate(invalid="ignore"):
        return hits / union


def annotated_pixels(model: Model, champion: Model, frames: Dataset, pixels: PixelFile) -> Gate:
    """Ask whether the candidate answers as many of the annotated pixels right as the champion."""
    right = [0, 0]
    names = frames.taxonomy.names
    for frame_id in pixels.frame_ids:
        frame = frames.frame(frame_id)
        for number, one in enumerate((model, champion)):
            mask, _ = one.segment(frame)
            right[number] += sum(
                names[mask[pixel.y, pixel.x]] == name
                for name, pixel in pixels.pixels.items()
                if pixel.image == frame_id
            )
    total = len(pixels.pixels)
    message = f"{right[0]} of {total} annotated pixels are right, the champion's {right[1]}"
    return Gate("annotated_pixels", right[0] >= right[1], right[0], right[1], message)


def agreement(
    model: Model, champion: Model, frames: Dataset, frame_ids: Sequence[str], limits: PromotionSettings
) -> Iterator[Gate]:
    """Ask whether the candidate does much the same as the champion: gates `agreement` and `coverage`."""
    classes = len(champion.metadata.classes)
    together = np.zeros((classes, classes), np.int64)
    for frame_id in tqdm(frame_ids, desc="gates", unit="frame", disable=None):
        frame = frames.frame(frame_id)
        mine, theirs = (one.segment(frame)[0].astype(np.int64) for one in (model, champion))
        together += np.bincount((theirs * classes + mine).ravel(), minlength=classes**2).reshape(classes, classes)
    share = float(np.trace(together) / together.sum())
    least = limits.least_agreement
    message = f"{share:.1%} of the pixels as the champion on {len(frame_ids)} frames; {least:.1%} at least"
    yield Gate("agreement", share >= least, share, least, message)
    theirs, mine = together.sum(axis=1), together.sum(axis=0)
    common = theirs >= limits.least_class_share * theirs.sum()
    kept = np.where(common, mine / np.maximum(theirs, 1), np.inf)
    worst = int(kept.argmin())
    yield Gate(
        "coverage",
        bool(kept[worst] >= limits.least_coverage),
        float(kept[worst]),
        limits.least_coverage,
        f"{champion.metadata.classes[worst].name} shrinks most, to {kept[worst]:.2f} of the champion's pixels",
    )


def latency(model: Model, champion: Model, most: float) -> Gate:
    """Ask whether the candidate is as fast as the champion, measured turn by turn in this process."""
    ratios = []
    for turn in range(TURNS):
        seconds = {}
        for one in (model, champion) if turn % 2 else (champion, model):
            seconds[one] = _seconds(one, np.zeros((1, *one.input_size, 3), np.uint8))
        ratios.append(seconds[model] / seconds[champion])
    ratio = statistics.median(ratios)
    return Gate("latency", ratio <= most, ratio, most, f"{ratio:.2f} of the champion's time; {most:g} at most")


def shadow(tags: Mapping[str, str], champion: str, limits: PromotionSettings) -> Gate:
    """Ask what a server's shadow has seen of the candidate on live frames, beside this version of the champion."""
    seen = json.loads(tags.get(SHADOW_TAG, "{}"))
    if seen.get("champion") != champion:
        seen = {}
    frames, share = seen.get("frames", 0), seen.get("agreement", 0.0)
    passed = frames >= limits.shadow_frames and share >= limits.least_agreement
    message = (
        f"{frames} live frames of {limits.shadow_frames} beside version {champion}, "
        f"agreement {share:.1%}; {limits.least_agreement:.1%} at least"
    )
    return Gate("shadow", passed, share, limits.least_agreement, message)


def _of_worst(name: str, change: float) -> str:
    return f"{name} changes most to the worse, by {change:+.2%}" if change < 0 else "no class is worse"


def _counts(model: Model, frames: Dataset, frame_ids: Sequence[str]) -> NDArray[np.int64]:
    counts = []
    for frame_id in tqdm(frame_ids, desc=f"gates: version {model.version}", unit="frame", disable=None):
        confusion = ConfusionMatrix(frames.taxonomy)
        confusion.update(frames.labels(frame_id), model.segment(frames.frame(frame_id))[0])
        counts.append(confusion.counts)
    return np.stack(counts)


def _seconds(model: Model, frames: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    model.infer(frames)
    return time.perf_counter() - began
