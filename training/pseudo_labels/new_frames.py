"""Pseudo labels of new frames from a finished run: each is attached to the run's solved graph, which stays as it is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import encode_png
from training.configuration import read_settings
from training.datasets import taxonomy_of
from training.datasets.files import FileDataset, existing_folder
from training.datasets.folder import images_by_stem
from training.features.embedding import EmbeddedRegions
from training.features.extraction import BASIS, describe_frames
from training.pseudo_labels.labelling import spread_labels
from training.pseudo_labels.propagation import Propagation


@dataclass(frozen=True)
class Labelled:
    """What became of one image."""

    name: str
    """Its file name."""
    failure: str | None = None
    """Why there is no pseudo label."""


class NewFrames:
    """The images of a folder, and the run that labels them.

    Parameters
    ----------
    run
        The folder of a pipeline with `pseudo_labels.method` propagation whose first pseudo labels are there.
    folder
        The images.
    out
        Where the pseudo labels go.

    Raises
    ------
    InputError
        If `run` is no such folder, `folder` holds no images or two of one stem, or `out` is `folder`.
    """

    def __init__(self, run: Path, folder: Path, out: Path) -> None:
        if not (run / "state.json").exists():
            raise InputError(f"RUN {run}: holds no run; give a folder that `onepixel train` made")
        self._settings = read_settings(run / "settings.yaml")
        if self._settings.pseudo_labels.method != "propagation":
            raise InputError(
                f"RUN {run}: its pseudo_labels.method is '{self._settings.pseudo_labels.method}', which keeps no graph "
                "to attach new frames to; give a run of 'propagation' (pseudo_labels.preset best)"
            )
        self._basis, self._graph = run / "features" / BASIS, run / "round_0" / "pseudo_labels" / "graph.npz"
        for path in (self._basis, self._graph):
            if not path.exists():
                raise InputError(f"RUN {run}: {path} is not there yet; go on with `onepixel train --resume`")
        self.paths = images_by_stem(existing_folder(folder, "--frames takes a folder of images"))
        if out.resolve() == folder.resolve():
            raise InputError(
                f"--out {out}: is the folder of the frames, which the labels would overwrite; name another"
            )
        self.left_out = sorted(path.name for path in folder.iterdir() if path not in self.paths.values())
        """What lies in `folder` besides the images."""
        self._out = out

    def label(self) -> Iterator[Labelled]:
        """Write `<out>/<stem>.png` for each image: 8-bit class ids of its own size, 255 where nothing is known.

        Yields
        ------
        What became of each, in the order of their names; one that cannot be read or described does not end it.
        """
        taxonomy = taxonomy_of(self._settings.dataset)
        dataset = FileDataset(taxonomy, "new", self.paths, {}, {})
        describe = describe_frames(self._settings, self._basis)
        # A new frame may have a training frame's name: it is attached like any other.
        graph = replace(Propagation.load(self._graph, self._settings.propagation), frame_ids=())
        for stem, path in self.paths.items():
            try:
                regions = describe(dataset.frame(stem))
            except InputError as error:
                named = str(path) in str(error)
                yield Labelled(path.name, str(error) if named else f"{path}: {error}")
                continue
            assert isinstance(regions, EmbeddedRegions)
            labels = spread_labels(stem, regions, graph, taxonomy, self._settings.pseudo_labels)
            with whole_file(self._out / f"{stem}.png") as temporary:
                temporary.write_bytes(encode_png(labels[regions.labels]))
            yield Labelled(path.name)
