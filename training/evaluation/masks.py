"""Masks in files: a Cityscapes submission folder of label ids, or one file of class ids per frame.

Cityscapes' own evaluation (cityscapesScripts, evalPixelLevelSemanticLabeling.py) takes as a frame's prediction the one
PNG anywhere in the folder whose name begins with `<city>_<sequence>_<frame>`; here the name need only contain it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import encode_png
from training.datasets.cityscapes import TRAIN_ID_TO_LABEL_ID, TRAIN_IDS
from training.datasets.files import existing_folder, read_label_values, translate
from training.taxonomy import IGNORED, Taxonomy

SUBMISSION_SUFFIX = "_labelIds.png"
"""Behind `<city>_<sequence>_<frame>` in a submission folder that is written here."""
_UNLABELLED = 0
"""Label id of a pixel that is predicted as no class; Cityscapes counts it as missed."""


class MaskFolder:
    """A folder of masks.

    Parameters
    ----------
    path
        The folder.
    taxonomy
        The classes.
    submission
        Whether files hold Cityscapes' label ids under its names, or else class ids (0 to C - 1, 255 no class) in
        `<frame>.png`.
    """

    def __init__(self, path: Path, taxonomy: Taxonomy, *, submission: bool) -> None:
        self.path, self.submission = path, submission
        ids = range(len(taxonomy.classes))
        self._class_ids = {class_id: class_id for class_id in (*ids, IGNORED)}
        self._values = np.arange(256, dtype=np.uint8)
        if submission:
            self._class_ids = {label_id: train_id for label_id, train_id in TRAIN_IDS.items() if label_id >= 0}
            self._values = np.full(256, _UNLABELLED, np.uint8)
            for class_id in ids:
                self._values[class_id] = TRAIN_ID_TO_LABEL_ID[class_id]

    def files(self, frame_ids: Sequence[str]) -> dict[str, Path]:
        """Return the mask file of each frame.

        Parameters
        ----------
        frame_ids
            All frames of the split: where one name contains another, a file is the longer one's.

        Raises
        ------
        InputError
            If there is no such folder, or a frame has no file or two; names the frame.
        """
        existing_folder(self.path, "--predictions is a folder of masks")
        found: dict[str, list[Path]] = {frame_id: [] for frame_id in frame_ids}
        if not self.submission:
            for frame_id in frame_ids:
                found[frame_id] = [path] if (path := self.path / f"{frame_id}.png").is_file() else []
        else:
            for path in sorted(self.path.rglob("*.png")):
                named = [frame_id for frame_id in frame_ids if frame_id in path.name]
                if named and path.is_file():
                    found[max(named, key=len)].append(path)
        for frame_id, paths in found.items():
            if not paths:
                name = f"*{frame_id}*.png, here or in a folder below" if self.submission else f"{frame_id}.png"
                raise InputError(f"--predictions {self.path}: no prediction for frame '{frame_id}'; should be {name}")
            if len(paths) > 1:
                raise InputError(
                    f"--predictions {self.path}: {len(paths)} predictions for frame '{frame_id}', {paths[0]} and "
                    f"{paths[1]}; there must be one"
                )
        return {frame_id: paths[0] for frame_id, paths in found.items()}

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return a file's class ids, uint8 [H, W]; 255 where it says no class, or one that is not evaluated.

        Raises
        ------
        InputError
            If it is no image of one byte per pixel, or holds a value that stands for nothing; names file and value.
        """
        return translate(read_label_values(path), self._class_ids, str(path))

    def write(self, frame_id: str, class_ids: NDArray[np.uint8]) -> Path:
        """Write a frame's class ids, uint8 [H, W], 255 no class; return the file, which appears whole or not at all."""
        path = self.path / (frame_id + (SUBMISSION_SUFFIX if self.submission else ".png"))
        with whole_file(path) as temporary:
            temporary.write_bytes(encode_png(self._values[class_ids]))
        return path
