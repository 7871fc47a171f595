"""`streets`: procedural driving scenes with exact labels for the 19 classes of Cityscapes.

A frame is a function of seed, split and index: a street in perspective, painted from far to near with one mask for
colour and class (`canvas`), then seen through a sensor (`light.develop`). It needs no files, so everything in this
project runs and is tested on a machine that has nothing.
"""

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np

from serving.errors import InputError
from training.datasets.base import Dataset, Frame, Labels
from training.datasets.streets.light import develop
from training.datasets.streets.scene import FEATURES, Street, draw_stage
from training.taxonomy import CITYSCAPES

SPLITS = ("train", "val")
"""The splits; a split's position is part of the seed of its scenes."""
_CACHE_BYTES = 2**26
"""Scenes of one size that stay rendered, in bytes: 227 of 192 x 384, 8 of 1024 x 2048."""


class Streets(Dataset):
    """One split of generated scenes.

    Parameters
    ----------
    split
        `train`, or `val` with half as many frames (at least one).
    size
        Height and width of the frames, pixels.
    train_frames
        Number of frames in `train`.
    seed
        Other seeds give other scenes.

    Raises
    ------
    InputError
        If there is no such split.
    """

    taxonomy = CITYSCAPES

    def __init__(
        self, split: str, *, size: tuple[int, int] = (192, 384), train_frames: int = 48, seed: int = 0
    ) -> None:
        if split not in SPLITS:
            raise InputError(f"streets: no split '{split}'; there are: {', '.join(SPLITS)}")
        count = train_frames if split == "train" else max(train_frames // 2, 1)
        self.split = split
        self.frame_ids = tuple(f"streets_{split}_{index:04d}" for index in range(count))
        self._size, self._seed = size, seed
        self._indices = {frame_id: index for index, frame_id in enumerate(self.frame_ids)}

    @property
    def has_labels(self) -> bool:
        """True: scenes are painted with their labels."""
        return True

    def frame(self, frame_id: str) -> Frame:
        """Return a frame's pixels, uint8 [H, W, 3], RGB, or raise `InputError` if there is no such frame."""
        return self._scene(frame_id)[0].copy()

    def labels(self, frame_id: str) -> Labels:
        """Return a frame's class ids, uint8 [H, W], or raise `InputError` if there is no such frame."""
        return self._scene(frame_id)[1].copy()

    def _scene(self, frame_id: str) -> tuple[Frame, Labels]:
        if frame_id not in self._indices:
            raise InputError(
                f"streets, split '{self.split}': no frame '{frame_id}'; "
                f"there are {self.frame_ids[0]} to {self.frame_ids[-1]}"
            )
        return _renderer(self._size)(self._size, self.split, self._indices[frame_id], self._seed)


@cache
def _renderer(size: tuple[int, int]) -> Callable[[tuple[int, int], str, int, int], tuple[Frame, Labels]]:
    """Return `render` with a memory that all data sets of a size share."""
    return lru_cache(max(1, _CACHE_BYTES // (4 * size[0] * size[1])))(render)


def render(size: tuple[int, int], split: str, index: int, seed: int) -> tuple[Frame, Labels]:
    """Render a scene.

    Parameters
    ----------
    size
        Height and width, pixels.
    split, index, seed
        What the scene is a function of.

    Returns
    -------
    frame, labels
        uint8 [H, W, 3] and uint8 [H, W], read-only since they are kept for the next call.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))
    stage = draw_stage(*size, rng)
    Street(stage, FEATURES[index % len(FEATURES)]).paint()
    frame, labels = develop(stage.canvas.colours, stage.light, rng), stage.canvas.labels
    frame.flags.writeable = labels.flags.writeable = False
    return frame, labels
