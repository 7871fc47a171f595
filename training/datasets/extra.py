"""A split with more frames, which nobody has labelled: a fleet's new frames beside those that were there.

A frame's identifier is made from its content, so that names cannot clash and a frame that lies there twice counts once.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from serving.errors import InputError
from training.datasets.base import Dataset, Frame, Labels
from training.datasets.files import FileDataset, existing_folder
from training.datasets.folder import SUFFIXES
from training.taxonomy import IGNORED

DIGITS = 16
"""Hexadecimal digits of a file's sha256 in its frame's identifier."""


class ExtendedSplit(Dataset):
    """Another data set's split, and the images of a folder after it; their labels are all 255, so nobody counts them.

    Parameters
    ----------
    dataset
        The split.
    folder
        Holds JPEG, PNG or WEBP images, at any depth.

    Raises
    ------
    InputError
        If there is no such folder, or no image in it.
    """

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.dataset, self.taxonomy, self.split = dataset, dataset.taxonomy, dataset.split
        self.extra = FileDataset(dataset.taxonomy, dataset.split, images_by_content(folder), {}, {})

    @cached_property
    def frame_ids(self) -> tuple[str, ...]:  # type: ignore[override]
        """The split's own frames, then the new ones."""
        return (*self.dataset.frame_ids, *self.extra.frame_ids)

    @property
    def has_labels(self) -> bool:
        """Whether the split's own frames have labels."""
        return self.dataset.has_labels

    @property
    def labelled_ids(self) -> Sequence[str]:
        """The split's own frames where they have labels."""
        return self.dataset.labelled_ids

    def frame(self, frame_id: str) -> Frame:
        """Return a frame's pixels, uint8 [H, W, 3], RGB, or raise `InputError` naming its file."""
        return self._of(frame_id).frame(frame_id)

    def labels(self, frame_id: str) -> Labels:
        """Return a frame's class ids, uint8 [H, W]; all 255 for a new one."""
        if self._is_extra(frame_id):
            return np.full(self.frame(frame_id).shape[:2], IGNORED, np.uint8)
        return self.dataset.labels(frame_id)

    def encoded(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own image file, or None where it has none."""
        return self._of(frame_id).encoded(frame_id)

    def encoded_labels(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own label file: none for a new one."""
        return b"" if self._is_extra(frame_id) else self.dataset.encoded_labels(frame_id)

    def _of(self, frame_id: str) -> Dataset:
        return self.extra if self._is_extra(frame_id) else self.dataset

    def _is_extra(self, frame_id: str) -> bool:
        return frame_id in self._extra_ids

    @cached_property
    def _extra_ids(self) -> frozenset[str]:
        return frozenset(self.extra.frame_ids)


def images_by_content(folder: Path) -> dict[str, Path]:
    """Return the images of a folder, at any depth, by an identifier made from their content, in its order.

    Raises
    ------
    InputError
        If there is no such folder, no image in it, or one cannot be read.
    """
    existing_folder(folder, "dataset.extra (or --frames) holds unlabelled images, at any depth")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)  # as of one that is being written
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        found.setdefault(f"extra_{hashlib.sha256(content).hexdigest()[:DIGITS]}", path)
    if not found:
        raise InputError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return dict(sorted(found.items()))
