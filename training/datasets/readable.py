"""A split without the frames whose images cannot be decoded: what `dataset.unreadable: skip` asks for."""

import logging
from functools import cached_property

from tqdm import tqdm

from serving.errors import InputError
from training.datasets.base import Dataset, Frame, Labels

_log = logging.getLogger(__name__)


class ReadableFrames(Dataset):
    """Another data set's split, its unreadable frames left out, each with a warning that names its file.

    Who asks for the frames first has all of them decoded once. Whoever asks for a frame that was left out gets the
    error.

    Parameters
    ----------
    dataset
        The split.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.taxonomy, self.split = dataset.taxonomy, dataset.split

    @cached_property
    def frame_ids(self) -> tuple[str, ...]:  # type: ignore[override]
        """The frames that can be read, in order.

        Raises
        ------
        InputError
            If there are none.
        """
        errors = self._errors
        readable = tuple(frame_id for frame_id in self.dataset.frame_ids if frame_id not in errors)
        if not readable:
            first = next(iter(errors.values()))
            raise InputError(f"{self.taxonomy.name}, split '{self.split}': no frame can be read; the first: {first}")
        return readable

    @property
    def unreadable(self) -> tuple[str, ...]:  # type: ignore[override]
        """The frames that cannot be read, in order."""
        return tuple(self._errors)

    @property
    def has_labels(self) -> bool:
        """Whether `labels` answers for every frame of the split."""
        return self.dataset.has_labels

    @property
    def labelled_ids(self) -> tuple[str, ...]:
        """The readable frames that somebody has labelled, in order."""
        labelled = set(self.dataset.labelled_ids)
        return tuple(frame_id for frame_id in self.frame_ids if frame_id in labelled)

    def frame(self, frame_id: str) -> Frame:
        """Return a frame's pixels, uint8 [H, W, 3], RGB, or raise `InputError` naming its file."""
        return self.dataset.frame(frame_id)

    def labels(self, frame_id: str) -> Labels:
        """Return a frame's class ids, uint8 [H, W], 255 ignored, or raise `InputError` naming file and value."""
        return self.dataset.labels(frame_id)

    def encoded(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own image file, or None where it has none."""
        return self.dataset.encoded(frame_id)

    def encoded_labels(self, frame_id: str) -> bytes | None:
        """Return the bytes of the frame's own label file, or None where it has none."""
        return self.dataset.encoded_labels(frame_id)

    @cached_property
    def _errors(self) -> dict[str, str]:
        errors: dict[str, str] = {}
        for frame_id in tqdm(self.dataset.frame_ids, desc=f"reading {self.split}", unit="frame", delay=2, disable=None):
            try:
                self.dataset.frame(frame_id)
            except InputError as error:
                errors[frame_id] = str(error)
                _log.warning("warning: frame '%s' is left out: %s", frame_id, error)
        return errors
