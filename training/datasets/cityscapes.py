"""Cityscapes in its own layout, its 34 label ids translated to the 19 evaluated classes.

Frames lie in `leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png`, labels in `gtFine/<split>/<city>/
<stem>_gtFine_labelIds.png`. A split without `gtFine` has no labels; those of the official `test` are all ignored.
"""

from pathlib import Path

from serving.errors import InputError
from training.datasets.files import FileDataset, existing_folder
from training.taxonomy import CITYSCAPES, IGNORED

FRAME_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIX = "_gtFine_labelIds.png"

LABEL_IDS = (
    ("unlabeled", 0),
    ("ego vehicle", 1),
    ("rectification border", 2),
    ("out of roi", 3),
    ("static", 4),
    ("dynamic", 5),
    ("ground", 6),
    ("road", 7),
    ("sidewalk", 8),
    ("parking", 9),
    ("rail track", 10),
    ("building", 11),
    ("wall", 12),
    ("fence", 13),
    ("guard rail", 14),
    ("bridge", 15),
    ("tunnel", 16),
    ("pole", 17),
    ("polegroup", 18),
    ("traffic light", 19),
    ("traffic sign", 20),
    ("vegetation", 21),
    ("terrain", 22),
    ("sky", 23),
    ("person", 24),
    ("rider", 25),
    ("car", 26),
    ("truck", 27),
    ("bus", 28),
    ("caravan", 29),
    ("trailer", 30),
    ("train", 31),
    ("motorcycle", 32),
    ("bicycle", 33),
    ("license plate", -1),
)
"""Every label and its id (cityscapesScripts, helpers/labels.py). The license plate's is never drawn into a file."""

TRAIN_IDS = {
    label_id: CITYSCAPES.names.index(name) if name in CITYSCAPES.names else IGNORED for name, label_id in LABEL_IDS
}
"""Train id (class id) of each label id; 255 where the label is not evaluated."""

TRAIN_ID_TO_LABEL_ID = {train_id: label_id for label_id, train_id in TRAIN_IDS.items() if train_id != IGNORED}
"""Label id of each class: what a file of predictions for Cityscapes' own evaluation holds."""


class Cityscapes(FileDataset):
    """One split of Cityscapes; identifiers are the stems, such as `aachen_000000_000019`.

    Parameters
    ----------
    root
        The folder that holds `leftImg8bit` and, where there are labels, `gtFine`.
    split
        `train`, `val` or `test`.

    Raises
    ------
    InputError
        If the split has no frames, two frames have one name, or some frames have labels and others none.
    """

    def __init__(self, root: Path, split: str) -> None:
        folder = existing_folder(
            root / "leftImg8bit" / split, f"Cityscapes' frames lie in ROOT/leftImg8bit/<split>/<city>/*{FRAME_SUFFIX}"
        )
        frames: dict[str, Path] = {}
        for path in sorted(folder.glob(f"*/*{FRAME_SUFFIX}")):
            frame_id = path.name.removesuffix(FRAME_SUFFIX)
            if frame_id in frames:
                raise InputError(f"{path}: frame '{frame_id}' also lies in {frames[frame_id].parent}")
            frames[frame_id] = path
        if not frames:
            raise InputError(f"{folder}: holds no <city>/*{FRAME_SUFFIX}")
        label_files: dict[str, Path] = {}
        if (root / "gtFine" / split).is_dir():
            for frame_id, path in frames.items():
                label_file = root / "gtFine" / split / path.parent.name / f"{frame_id}{LABEL_SUFFIX}"
                if not label_file.is_file():
                    raise InputError(f"{label_file}: no such file; gtFine/{split} must label every frame of the split")
                label_files[frame_id] = label_file
        in_files = {label_id: train_id for label_id, train_id in TRAIN_IDS.items() if label_id >= 0}
        super().__init__(CITYSCAPES, split, frames, label_files, in_files)
