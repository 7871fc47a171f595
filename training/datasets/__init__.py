"""Data sets: where frames come from and, where somebody drew them, their true labels.

`open_dataset` answers the data set that the settings name; every one of them keeps the contract of `base.Dataset`.
"""

from collections.abc import Sequence
from typing import TypeVar

from serving.errors import InputError
from training.datasets.base import Dataset
from training.datasets.extra import ExtendedSplit
from training.datasets.readable import ReadableFrames
from training.settings import DatasetSettings
from training.taxonomy import CAMVID, CITYSCAPES, Taxonomy

__all__ = ["Dataset", "evenly_spaced", "open_dataset", "taxonomy_of"]

Item = TypeVar("Item")


def open_dataset(settings: DatasetSettings, split: str) -> Dataset:
    """Open one split of the data set that the settings name, without its unreadable frames where they say so.

    The training split has the frames of `settings.extra` besides.

    `settings.limit` is left to the caller, who says what is limited; see `evenly_spaced`.

    Parameters
    ----------
    settings
        Name, folder and, for `streets`, size, number and seed of frames.
    split
        The split; each data set says which it has.

    Raises
    ------
    InputError
        If the folder does not hold the data set's layout, or has no such split.
    """
    dataset = _open(settings, split)
    if settings.extra is not None and split == settings.train:
        dataset = ExtendedSplit(dataset, settings.extra)
    return ReadableFrames(dataset) if settings.unreadable == "skip" else dataset


def _open(settings: DatasetSettings, split: str) -> Dataset:
    match settings.name:
        case "streets":
            from training.datasets.streets import Streets

            return Streets(split, size=settings.size, train_frames=settings.frames, seed=settings.seed)
        case name if settings.root is None:
            raise InputError(f"dataset.root: '{name}' needs a folder: --set dataset.root=DIR")
        case "camvid":
            from training.datasets.camvid import CamVid

            return CamVid(settings.root, split)
        case "cityscapes":
            from training.datasets.cityscapes import Cityscapes

            return Cityscapes(settings.root, split)
        case "folder":
            from training.datasets.folder import Folder

            return Folder(settings.root, split, taxonomy_of(settings))


def taxonomy_of(settings: DatasetSettings) -> Taxonomy:
    """Return the classes of the data set that the settings name, which need not be at hand."""
    name = settings.taxonomy if settings.name == "folder" else settings.name
    return CAMVID if name == "camvid" else CITYSCAPES


def evenly_spaced(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Take `limit` of the items, evenly spaced from the first on, in order; all of them for None or a larger limit.

    >>> evenly_spaced(range(367), 92)[:3]
    [0, 4, 8]
    """
    if limit is None or limit >= len(items):
        return list(items)
    return [items[-(-index * len(items) // limit)] for index in range(limit)]
