"""What every data set answers: its classes, its frames, their pixels, their labels where there are any."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.errors import InputError
from training.taxonomy import IGNORED, Taxonomy

Frame = NDArray[np.uint8]
Labels = NDArray[np.uint8]


class Dataset(ABC):
    """The frames of one split of a data set, by identifier.

    Identifiers are unique within the data set (over all its splits), in a fixed order within the split, and usable as
    a file's stem.
    """

    taxonomy: Taxonomy
    """The classes of the labels."""
    split: str
    """The split's name."""
    frame_ids: Sequence[str]
    """The split's frames, in order."""
    unreadable: Sequence[str] = ()
    """Frames that were left out since they cannot be read; see `readable`."""

    def __len__(self) -> int:
        return len(self.frame_ids)

    @property
    @abstractmethod
    def has_labels(self) -> bool:
        """Whether `labels` answers for every frame of the split."""

    @property
    def labelled_ids(self) -> Sequence[str]:
        """The frames that somebody has labelled, in order."""
        return self.frame_ids if self.has_labels else ()

    @abstractmethod
    def frame(self, frame_id: str) -> Frame:
        """Return a frame's pixels, uint8 [H, W, 3], RGB.

        Raises
        ------
        InputError
            If there is no such frame, or its file is missing or unreadable; names the file.
        """

    @abstractmethod
    def labels(self, frame_id: str) -> Labels:
        """Return a frame's true class ids, uint8 [H, W] of the frame's own size; 255 is ignored.

        Raises
        ------
        InputError
            If they are missing, unreadable, of another size than the frame, or hold a value that is no class.
        """

    def encoded(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own image file, or None where it has none (it is generated)."""
        return None

    def encoded_labels(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own label file, or None where it has none (it is generated)."""
        return None

    def digest(self) -> str:
        """Return the sha256, hexadecimal, of the manifest: each frame's identifier and the sha256 of its pixels."""
        return self._manifest(self.encoded, self.frame)

    def manifest(self) -> str:
        """Return the manifest itself: a line `identifier sha256` for each frame."""
        return "".join(self._lines(self.encoded, self.frame))

    def labels_digest(self) -> str:
        """Return the like of the true labels; of an empty manifest where there are none."""
        return self._manifest(self.encoded_labels, self.labels) if self.has_labels else hashlib.sha256().hexdigest()

    def _manifest(self, encoded: Callable[[str], bytes | None], pixels: Callable[[str], NDArray[np.uint8]]) -> str:
        return hashlib.sha256("".join(self._lines(encoded, pixels)).encode()).hexdigest()

    def _lines(
        self, encoded: Callable[[str], bytes | None], pixels: Callable[[str], NDArray[np.uint8]]
    ) -> Iterator[str]:
        for frame_id in tqdm(self.frame_ids, desc=f"digest of {self.split}", unit="frame", delay=2, disable=None):
            content = encoded(frame_id)
            if content is None:
                content = pixels(frame_id).tobytes()
            yield f"{frame_id} {hashlib.sha256(content).hexdigest()}\n"


def check_labels(labels: Labels, size: tuple[int, int], taxonomy: Taxonomy, source: str) -> Labels:
    """Return `labels` if they fit their frame, by its height and width, and the classes.

    Raises
    ------
    InputError
        On a size mismatch or a value that is neither a class id nor 255; names the source and the value.
    """
    if labels.shape != size:
        raise InputError(
            f"{source}: labels are {labels.shape[0]} x {labels.shape[1]} (height x width), "
            f"their frame is {size[0]} x {size[1]}; they must be equal"
        )
    known = np.zeros(256, bool)
    known[: len(taxonomy.classes)] = True
    known[IGNORED] = True
    wrong = labels[~known[labels]]
    if wrong.size:
        raise InputError(
            f"{source}: label value {wrong[0]} is no class of {taxonomy.name}; "
            f"allowed are 0 to {len(taxonomy.classes) - 1} and {IGNORED}"
        )
    return labels
