"""Settings of a training run: frozen, validated, documented where they are defined, written next to what they produced.

`training.configuration` reads them from files. Here is the whole of them; `method` has the sections of features and
pseudo labels, `learning` those of the networks, `promotion` that of the gates.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.settings.base import Frozen, Seed, Size
from training.settings.learning import (
    IterationSettings,
    NetworkSettings,
    PredictionSettings,
    TrainerSettings,
)
from training.settings.method import (
    CamSettings,
    EmbeddingSettings,
    PropagationSettings,
    PseudoLabelSettings,
    RepresentationSettings,
    SaliencySettings,
    SuperpixelSettings,
)
from training.settings.promotion import PromotionSettings


class DatasetSettings(Frozen):
    """Where frames come from."""

    name: Literal["streets", "camvid", "cityscapes", "folder"]
    """The data set's layout."""
    root: Path | None = None
    """Its folder. `streets` needs none: it is generated."""
    train: str = "train"
    """The split whose frames get pseudo labels. Its labels are read for reporting alone."""
    evaluation: str = "val"
    """The split on which the network is reported."""
    extra: Path | None = None
    """A folder of unlabelled images, at any depth, that are trained on beside the frames of `train`."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take this many frames, evenly spaced over the split, to train or, in `onepixel evaluate`, to score; None takes
    all."""
    unreadable: Literal["stop", "skip"] = "stop"
    """What an image that cannot be decoded does: `stop` ends the command with its name. `skip` leaves it out with a
    warning that names it; to that end every frame of a split is decoded once before the first is used."""
    seed: Seed = 0
    """Seed of generated frames (`streets` only); the shipped pixels are those of seed 0."""
    size: Size = (192, 384)
    """Height and width of generated frames (`streets` only), pixels."""
    frames: Annotated[int, Field(ge=1)] = 48
    """Generated training frames; evaluation has half as many (`streets` only)."""
    taxonomy: Literal["cityscapes", "camvid"] = "cityscapes"
    """The classes of the labels (`folder` only; every other data set has its own)."""

    @model_validator(mode="after")
    def _needs_root(self) -> "DatasetSettings":
        if self.name != "streets" and self.root is None:
            raise ValueError(f"data set '{self.name}' needs a folder: --set dataset.root=DIR")
        return self


class TrackingSettings(Frozen):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; None takes MLFLOW_TRACKING_URI, or else `mlflow.db` (SQLite) in the run's own folder."""
    experiment: str = "onepixel"
    """Name of the experiment."""


class Settings(Frozen):
    """Everything that a run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the model that comes out, and of its folder."""
    seed: Seed = 0
    """Seed of every random choice in training; generated frames have their own, `dataset.seed`."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes for the per-frame stages; None takes one per core, 1 starts none."""
    pixels: str
    """The annotated pixels: a shipped file's name, or the path of a YAML file."""
    dataset: DatasetSettings
    superpixels: SuperpixelSettings = SuperpixelSettings()
    cam: CamSettings = CamSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    saliency: SaliencySettings = SaliencySettings()
    representation: RepresentationSettings = RepresentationSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    propagation: PropagationSettings = PropagationSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainerSettings = TrainerSettings()
    iterations: IterationSettings = IterationSettings()
    prediction: PredictionSettings = PredictionSettings()
    promotion: PromotionSettings = PromotionSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if self.promotion.gate_split == self.dataset.evaluation:
            raise ValueError(
                f"promotion.gate_split '{self.promotion.gate_split}' is the evaluation split, which is for reporting; "
                f"give another, such as '{self.dataset.train}'"
            )
        if self.iterations.loop == "best" and self.pseudo_labels.method != "propagation":
            raise ValueError(
                "iterations.loop 'best' needs a graph's scores, pseudo_labels.method is "
                f"'{self.pseudo_labels.method}'; give iterations.loop=paper"
            )
        if self.training.soft_labels and self.pseudo_labels.method != "propagation":
            raise ValueError(
                "training.soft_labels needs scores that compare all classes, pseudo_labels.method is "
                f"'{self.pseudo_labels.method}', which asks objects before scenes; give training.soft_labels=0"
            )
        return self
