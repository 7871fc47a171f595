"""Where masks come from: an exported model, a run's weights, a folder of files, a server.

Each opens as a `Source`, a context manager's value, checked against the data set's classes before the first frame.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import InputError
from training.configuration import read_settings
from training.datasets import Dataset, taxonomy_of
from training.evaluation.masks import MaskFolder
from training.settings import Settings

PATIENCE = 5.0
"""Seconds that a server may take to answer first."""

Answer = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]
"""Class ids, uint8 [H, W], 255 no class; and 255 x the winning probability, uint8 [H, W], where there is one."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What answers a mask for each frame of a data set."""

    name: str
    """The option that named it, for errors."""
    answer: Callable[[str], Answer]
    """From a frame's identifier to its mask."""
    model_digest: str | None = None
    """sha256 of the ONNX file that answers, hexadecimal; None where it is none."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """The file of each frame's mask, where they are files."""


@contextmanager
def open_model(path: Path, dataset: Dataset) -> Iterator[Source]:
    """Answer by an exported model, the way that a server does.

    Raises
    ------
    InputError
        If the file is no model of ours, or its classes are not the data set's.
    """
    from serving.model import Model

    if path.suffix == ".safetensors":
        raise InputError(f"--model {path}: holds a run's weights; give them as --checkpoint")
    model, name = Model.load(path), f"--model {path}"
    _check_classes(name, tuple(description.name for description in model.metadata.classes), dataset)
    yield Source(name=name, answer=lambda frame_id: model.segment(dataset.frame(frame_id)), model_digest=model.digest)


@contextmanager
def open_checkpoint(
    path: Path, settings: Settings, dataset: Dataset, overrides: Sequence[str] = ()
) -> Iterator[Source]:
    """Answer by the weights that a round of a run ended with, as `settings.prediction` says.

    Parameters
    ----------
    path
        The run's `round_N/network/network.safetensors`. The network is built by the settings.yaml of the run's folder
        above it; where there is none, by `settings`.
    settings
        The data set's configuration.
    dataset
        The split.
    overrides
        What was given as `--set` takes it, and is in `settings`.

    Raises
    ------
    InputError
        If the file holds the weights of another network than the settings say, its classes are not the data set's, or
        an override would have the run's network be another.
    """
    from training.segmentation.prediction import predict
    from training.segmentation.trained import trained_network

    name = f"--checkpoint {path}"
    if path.suffix == ".onnx":
        raise InputError(f"{name}: is an exported model; give it as --model")
    if not path.is_file():
        raise InputError(f"{name}: there is no such file; give the network.safetensors of a run's round")
    origin = next(
        (folder / "settings.yaml" for folder in path.resolve().parents[:3] if (folder / "settings.yaml").is_file()),
        None,
    )
    trained = read_settings(origin) if origin else settings
    if origin:
        _check_classes(name, taxonomy_of(trained.dataset).names, dataset)
        for key in (override.partition("=")[0] for override in overrides):
            if key.split(".")[0] != "network":
                continue
            given, built = (reduce(getattr, key.split("."), one) for one in (settings, trained))
            if given != built:
                raise InputError(f"--set {key}: {name} is built by {origin}, where it is {built}; leave it out")
    try:
        network = trained_network(path, trained, len(dataset.taxonomy.classes))
    except InputError as error:
        described = str(origin) if origin else "the configuration of --dataset with --set, since no run is around it"
        raise InputError(f"{name}: does not fit `network` and `cam` in {described}: {error}") from error
    yield Source(
        name=name,
        answer=lambda frame_id: predict(
            network, dataset.frame(frame_id), trained.network.input_size, settings.prediction
        ),
    )


@contextmanager
def open_predictions(path: Path, settings: Settings, dataset: Dataset) -> Iterator[Source]:
    """Answer by a folder of masks: a submission folder for `cityscapes`, elsewhere class ids in `<frame>.png`.

    Raises
    ------
    InputError
        If a frame of the split has no file or two.
    """
    folder = MaskFolder(path, dataset.taxonomy, submission=settings.dataset.name == "cityscapes")
    files = folder.files(dataset.frame_ids)
    yield Source(
        name=f"--predictions {path}", answer=lambda frame_id: (folder.read(files[frame_id]), None), files=files
    )


@contextmanager
def open_server(address: str, dataset: Dataset) -> Iterator[Source]:
    """Answer by a server's default model, to which each frame is sent without loss.

    Raises
    ------
    InputError
        If no server answers, its classes are not the data set's, it refuses a frame, or its model changes meanwhile.
    """
    from serving.client import Client, SegmentOptions, ServerError
    from serving.frames import encode_png

    name, options = f"--server {address}", SegmentOptions(want_confidence=True)
    with Client(address) as client:
        try:
            client.wait_ready(PATIENCE)
            info = client.model_info()
        except ServerError as error:
            raise InputError(f"{name}: {error.message}") from error
        _check_classes(name, tuple(description.name for description in info.classes), dataset)

        def answer(frame_id: str) -> Answer:
            try:
                segmentation = client.segment(encode_png(dataset.frame(frame_id)), options)
            except ServerError as error:
                raise InputError(f"{name}: frame '{frame_id}': {error}") from error
            if segmentation.model_digest != info.digest:
                raise InputError(f"{name}: at frame '{frame_id}' another model answers than at first; evaluate again")
            return segmentation.mask, segmentation.confidence

        yield Source(name=name, answer=answer, model_digest=info.digest)


def _check_classes(name: str, classes: tuple[str, ...], dataset: Dataset) -> None:
    if classes != dataset.taxonomy.names:
        raise InputError(f"{name}: its classes are {', '.join(classes)}; {dataset.taxonomy.name} has others")
