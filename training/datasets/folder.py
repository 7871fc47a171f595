"""A plain folder of images, with or without labels: a fleet's own frames.

Two layouts. With splits, frames lie in `<root>/<split>/images/` and their labels, if any, in
`<root>/<split>/labels/<stem>.png`, class ids 0..C-1 and 255. Without a folder of the split's name, the images lie
directly in `<root>`, every split is all of them, and there are no labels.
"""

from pathlib import Path

from serving.errors import InputError
from training.datasets.files import FileDataset, existing_folder
from training.taxonomy import IGNORED, Taxonomy

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


class Folder(FileDataset):
    """One split of a folder of images; identifiers are the file names without suffix.

    Parameters
    ----------
    root
        The folder.
    split
        Name of a sub-folder, or any name where the images lie in the root itself.
    taxonomy
        The classes of the labels.

    Raises
    ------
    InputError
        If there are no images, two have one stem (in this or another split), or some have labels and others none.
    """

    def __init__(self, root: Path, split: str, taxonomy: Taxonomy) -> None:
        existing_folder(root, "it must hold images, or <split>/images and <split>/labels")
        class_ids = {**{class_id: class_id for class_id in range(len(taxonomy.classes))}, IGNORED: IGNORED}
        if not (root / split).is_dir():
            if any(root.glob("*/images")):
                splits = ", ".join(sorted(path.parent.name for path in root.glob("*/images")))
                raise InputError(
                    f"{root / split}: no such folder, so no split '{split}'; there are: {splits}; "
                    "make it, or name another: --set dataset.train=... or dataset.evaluation=..., evaluate's --split"
                )
            super().__init__(taxonomy, split, images_by_stem(root), {}, class_ids)
            return
        images = existing_folder(root / split / "images", "a split's frames lie in <root>/<split>/images")
        frames = images_by_stem(images)
        for other in sorted(root.glob("*/images")):
            for frame_id, path in images_by_stem(other).items() if other != images else ():
                if frame_id in frames:
                    raise InputError(f"{path}: the name '{frame_id}' is also in {images}; names must differ")
        label_folder = root / split / "labels"
        label_files: dict[str, Path] = {}
        if label_folder.is_dir():
            label_files = {frame_id: label_folder / f"{frame_id}.png" for frame_id in frames}
            for path in label_files.values():
                if not path.is_file():
                    raise InputError(f"{path}: no such file; {label_folder} must label every frame of the split")
        super().__init__(taxonomy, split, frames, label_files, class_ids)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by stem, sorted by name.

    Raises
    ------
    InputError
        If there are none, or two have one stem.
    """
    frames: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if path.stem in frames:
            raise InputError(f"{path}: {frames[path.stem].name} has the same stem; names must differ")
        frames[path.stem] = path
    if not frames:
        raise InputError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return frames
