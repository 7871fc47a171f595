"""The folder of one pipeline: what it was started with, which of its stages are complete, and where things lie.

settings.yaml, pixels.yaml   what it was started with
state.json                   written last when a pipeline starts: a folder without it is nobody's
.lock                        held by the process that is at work here
features/ID.npz              the training frames' RegionFeatures, or EmbeddedRegions with their basis.safetensors
round_0/pseudo_labels/graph.npz   the solved graph (`propagation` only)
round_N/pseudo_labels/ID.png, round_N/pseudo_labels/confidence/ID.png, round_N/network/, round_N/evaluation/
round_N/pseudo_labels/soft/ID.npy   class distributions of the superpixels, float16 [K, C] (`training.soft_labels` only)
twin/network/, twin/evaluation/   the same network trained on the true labels
model_store/NAME/1/model.onnx
<stage>/done.json            the stage is complete; holds its result
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from serving.errors import InputError
from serving.files import whole_file
from training.annotations.pixels import PixelFile
from training.configuration import read_settings
from training.datasets.base import Dataset
from training.settings import Settings
from training.tracking import tracking_uri

logger = logging.getLogger(__name__)

FREE_SETTINGS = {"workers", "pixels", "prediction", "promotion", "training.checkpoint_every"}
"""Settings that may change when a pipeline resumes: its results do not depend on them, and of the pixel file the
content is compared, not the name."""

Result = dict[str, Any]


class State(BaseModel):
    """What a pipeline decides once, when it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Stands for the pipeline in MLflow."""
    tracking_uri: str
    """Where it is tracked."""
    dataset_digest: str
    """sha256 of the manifest of training frames."""
    files: dict[str, str]
    """sha256 of the files that settings name, by setting."""
    others: dict[str, str] = {}
    """sha256 of what else must stay: evaluation frames, and the true labels of both splits, by what it is. Empty in a
    folder from before these were kept."""


class RunFolder:
    """The folder of a pipeline, claimed by it.

    Parameters
    ----------
    path
        The folder; made where it is missing.
    settings, pixels, splits
        What the pipeline runs on, of the splits those to train and to evaluate on. They must be those that the folder
        was claimed with; frames and labels are looked at last, since all of them are read.
    resume
        Go on with what is there; else there must be nothing.

    Raises
    ------
    InputError
        If the folder is another pipeline's, or `resume` is not set and it is claimed.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        pixels: PixelFile,
        splits: tuple[Dataset, Dataset],
        *,
        resume: bool,
    ) -> None:
        self.path = path
        train, evaluation = splits
        others = {
            "the true labels of the training frames": train.labels_digest,
            "the evaluation frames": evaluation.digest,
            "the true labels of the evaluation frames": evaluation.labels_digest,
        }
        state = path / "state.json"
        if not state.exists():
            with claimed(path):
                if not state.exists():  # else another process has begun here meanwhile
                    write_yaml(path / "settings.yaml", settings.model_dump(mode="json"))
                    write_yaml(path / "pixels.yaml", pixels.model_dump())
                    self.state = State(
                        key=uuid.uuid4().hex,
                        tracking_uri=tracking_uri(settings.tracking, path),
                        dataset_digest=train.digest(),
                        files=file_digests(settings),
                        others={what: digest() for what, digest in others.items()},
                    )
                    write_json(state, self.state.model_dump())
                    return
        if not resume:
            raise InputError(f"--out {path} holds a run: add --resume to go on with it, or take another folder")
        self.state = State.model_validate_json(state.read_text())
        before = read_settings(path / "settings.yaml")
        changed = _first_difference(before.model_dump(), settings.model_dump())
        if changed:
            raise InputError(
                f"--resume: {changed} than in {path}/settings.yaml; take another --out (what may be other: "
                f"{', '.join(sorted(FREE_SETTINGS))})"
            )
        if yaml.safe_load((path / "pixels.yaml").read_text()) != pixels.model_dump():
            raise InputError(f"--resume: {settings.pixels} differs from {path}/pixels.yaml; take another --out")
        for setting, digest in file_digests(settings).items():
            if digest != self.state.files[setting]:
                raise InputError(f"--resume: the file of {setting} is not that which {path} was started with")
        if train.digest() != self.state.dataset_digest:
            raise InputError(
                f"--resume: the training frames are not those that {path} was started with; take another --out"
            )
        for what, digest in self.state.others.items():
            if others[what]() != digest:
                raise InputError(f"--resume: {what} are not those that {path} was started with; take another --out")

    def result(self, stage: str) -> Result | None:
        """Return a stage's result, or None where it is not complete."""
        done = self.path / stage / "done.json"
        return json.loads(done.read_text()) if done.exists() else None

    def complete(self, stage: str, result: Result) -> None:
        """Mark a stage as complete."""
        write_json(self.path / stage / "done.json", result)

    def features(self, frame_id: str) -> Path:
        """Where a training frame's features lie."""
        return self.path / "features" / f"{frame_id}.npz"

    def pseudo_labels(self, number: int, frame_id: str) -> Path:
        """Where a training frame's pseudo labels of a round lie."""
        return self.path / f"round_{number}" / "pseudo_labels" / f"{frame_id}.png"

    @property
    def graph(self) -> Path:
        """Where the solved graph lies (`propagation` only)."""
        return self.path / "round_0" / "pseudo_labels" / "graph.npz"

    def confidence(self, number: int, frame_id: str) -> Path:
        """Where it lies what a training frame's pseudo labels of a round are sure of."""
        return self.path / f"round_{number}" / "pseudo_labels" / "confidence" / f"{frame_id}.png"

    def soft_labels(self, number: int, frame_id: str) -> Path:
        """Where the class distributions of a training frame's superpixels of a round lie."""
        return self.path / f"round_{number}" / "pseudo_labels" / "soft" / f"{frame_id}.npy"

    def network(self, training: str) -> Path:
        """Where the weights that a training, `round_<N>` or `twin`, ended with lie."""
        return self.path / training / "network" / "network.safetensors"

    def checkpoint(self, training: str) -> Path:
        """Where the state of a training lies while it is under way."""
        return self.path / training / "network" / "checkpoint.safetensors"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a folder for oneself, made where it is missing; the claim of a process that is killed goes with it.

    Raises
    ------
    InputError
        If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another process is at work here; wait for it, or give another --out") from None
        except OSError as error:  # as of a file system that has no locks
            logger.warning("%s: cannot be kept from other processes: %s", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def file_digests(settings: Settings) -> dict[str, str]:
    """Return the sha256, hexadecimal, of each file of weights that the settings name, by setting."""
    named = {
        "cam.weights": settings.cam.weights,
        "network.weights": settings.network.weights,
        "saliency.forest": settings.saliency.forest,
        "iterations.start": settings.iterations.start,
    }
    files = {setting: Path(name) for setting, name in named.items() if name is not None}
    return {setting: hashlib.sha256(file.read_bytes()).hexdigest() for setting, file in files.items() if file.is_file()}


def slug(name: str) -> str:
    """Return a name in small letters, digits and hyphens, as a folder is called."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def digest_of(content: Result) -> str:
    """Return twelve hexadecimal digits that stand for what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def link_files(source: Path, target: Path) -> None:
    """Give the files below a folder to another one that lacks them; they are replaced as a whole, never written to."""
    for file in source.rglob("*"):
        there = target / file.relative_to(source)
        if file.is_file() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.hardlink_to(file)


def write_json(path: Path, content: Result) -> None:
    """Write a JSON file that appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, content: Result) -> None:
    """Write a YAML file that appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))


def _first_difference(before: Result, now: Result, prefix: str = "") -> str | None:
    """Say of the first key, with dots, whose values differ and matter what is other; None where none does."""
    for key, value in now.items():
        if prefix + key in FREE_SETTINGS or value == before[key]:
            continue
        if not isinstance(value, dict):
            return f"{prefix}{key} is {value}, other ({before[key]})"
        within = _first_difference(before[key], value, f"{prefix}{key}.")
        if within:
            return within
    return None
