"""Data sets whose frames and labels are image files: reading, the raw values' translation, and errors with file names.

Frames go through `serving.frames`, as in the server, so that training and serving cannot disagree about a pixel; labels
are read as they are stored. `camvid`, `cityscapes` and `folder` only say where the files lie and what the values mean.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from serving.errors import InputError
from serving.frames import decode_image, image_size
from training.datasets.base import Dataset, Frame, Labels, check_labels
from training.taxonomy import IGNORED, Taxonomy

Read = TypeVar("Read")


class FileDataset(Dataset):
    """Frames in image files, labels in PNG files of one value per pixel.

    Parameters
    ----------
    taxonomy
        The classes.
    split
        The split's name.
    frames
        The frame file of each identifier, in the split's order.
    label_files
        The label file of each identifier; empty where the split has no labels.
    class_ids
        The class id (or 255) that each raw value in a label file stands for; other values are errors.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        split: str,
        frames: Mapping[str, Path],
        label_files: Mapping[str, Path],
        class_ids: Mapping[int, int],
    ) -> None:
        self.taxonomy = taxonomy
        self.split = split
        self.frame_ids = tuple(frames)
        self._frames = dict(frames)
        self._label_files = dict(label_files)
        self._class_ids = dict(class_ids)

    @property
    def has_labels(self) -> bool:
        """Whether the split came with label files."""
        return bool(self._label_files)

    def frame(self, frame_id: str) -> Frame:
        """Return a frame's pixels, uint8 [H, W, 3], RGB, or raise `InputError` naming its file."""
        return np.require(self._of_frame(frame_id, decode_image), requirements="W")

    def labels(self, frame_id: str) -> Labels:
        """Return a frame's class ids, uint8 [H, W], 255 ignored, or raise `InputError` naming file and value."""
        path = self._path(self._label_files, frame_id, "label file")
        labels = translate(read_label_values(path), self._class_ids, str(path))
        return check_labels(labels, self._of_frame(frame_id, image_size), self.taxonomy, str(path))

    def encoded(self, frame_id: str) -> bytes:
        """Return the bytes of the frame's file, or raise `InputError` if it is missing."""
        return _read(self._path(self._frames, frame_id, "frame"))

    def encoded_labels(self, frame_id: str) -> bytes:
        """Return the bytes of the frame's label file, or raise `InputError` if it is missing."""
        return _read(self._path(self._label_files, frame_id, "label file"))

    def _of_frame(self, frame_id: str, read: Callable[[bytes], Read]) -> Read:
        """Return what `read` finds in the frame's file; an error of it names the file."""
        path, encoded = self._path(self._frames, frame_id, "frame"), self.encoded(frame_id)
        try:
            return read(encoded)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def _path(self, files: Mapping[str, Path], frame_id: str, what: str) -> Path:
        try:
            return files[frame_id]
        except KeyError:
            raise InputError(
                f"{self.taxonomy.name}, split '{self.split}': no {what} for '{frame_id}'"
                + (f"; the first of {len(files)} is '{next(iter(files))}'" if files else "; the split has none")
            ) from None


def read_label_values(path: Path) -> NDArray[np.uint8]:
    """Read a label file as it is stored: the raw value of each pixel, uint8 [H, W].

    Raises
    ------
    InputError
        If the file is missing, no image, or not one byte per pixel (Pillow's modes L and P).
    """
    try:
        with Image.open(io.BytesIO(_read(path))) as image:
            if image.mode not in ("L", "P"):
                raise InputError(
                    f"{path}: label image has mode {image.mode}; it must hold one byte per pixel, "
                    "the class value (mode L or P)"
                )
            return np.array(image, np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable label image: {error}") from error


def translate(values: NDArray[np.uint8], class_ids: Mapping[int, int], source: str) -> Labels:
    """Translate raw label values to class ids, uint8 of the same shape.

    Raises
    ------
    InputError
        On a value that stands for nothing; names the source, the value, and the first pixel that has it.
    """
    table = np.full(256, IGNORED, np.uint8)
    known = np.zeros(256, bool)
    for value, class_id in class_ids.items():
        table[value] = class_id
        known[value] = True
    wrong = np.argwhere(~known[values])
    if len(wrong):
        row, column = wrong[0]
        raise InputError(
            f"{source}: label value {values[row, column]} at row {row}, column {column} is unknown; "
            f"known are {_ranges(known)}"
        )
    return table[values]


def existing_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder, else raise an `InputError` that says what should lie there."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; {what}")
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _ranges(known: NDArray[np.bool_]) -> str:
    """Write the set of known values as ranges, such as `0 to 11, 255`."""
    steps = np.flatnonzero(np.diff(np.concatenate(([0], known.astype(np.int8), [0]))))
    return ", ".join(
        str(start) if stop - start == 1 else f"{start} to {stop - 1}"
        for start, stop in zip(steps[::2], steps[1::2], strict=True)
    )
