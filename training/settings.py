"""Settings of a training run: frozen, validated, documented where they are defined, written next to what they produced.

`load_settings` reads a shipped configuration by name or a YAML file by path, applies `--set key=value` overrides, makes
paths absolute, and answers one `Settings` object. An unknown key or an impossible value is an `InputError` that names
both.
"""

import difflib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Size = tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetSettings(_Frozen):
    """Where frames come from."""

    name: Literal["streets", "camvid", "cityscapes", "folder"]
    """The data set's layout."""
    root: Path | None = None
    """Its folder. `streets` needs none: it is generated."""
    train: str = "train"
    """The split whose frames get pseudo labels. Its labels are read for reporting alone."""
    evaluation: str = "val"
    """The split on which the network is reported."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take this many frames, evenly spaced over the split, to train or, in `onepixel evaluate`, to score; None takes
    all."""
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


class SuperpixelSettings(_Frozen):
    """SLIC on CIELAB (Achanta et al., 2012)."""

    count: Annotated[int, Field(ge=4)] = 600
    """Superpixels asked for, per frame."""
    compactness: Annotated[float, Field(gt=0)] = 20.0
    """Weight of position against colour."""


class CamSettings(_Frozen):
    """The class activation network and MOSF, multi overlapping slices fusion (paper, figure 3)."""

    network: str = "mobilenet_v2"
    """Any torchvision classifier whose last layer is linear behind global average pooling."""
    weights: str | None = None
    """A safetensors file, a torchvision weights name such as IMAGENET1K_V1, or `embedded`: the small classifier of
    procedural street objects that ships with onepixel. Needed."""
    slice_height: Annotated[int, Field(ge=33)] = 225
    """Height to which each of the 15 slices is resized, 32 k + 1; the width follows from the frame's shape."""

    @model_validator(mode="after")
    def _fits(self) -> "CamSettings":
        if self.slice_height % 32 != 1:
            raise ValueError(f"slice_height must be 32 k + 1 (225, 353, ...), got {self.slice_height}")
        if self.weights == "embedded" and self.network != "mobilenet_v2":
            raise ValueError(
                f"network must be mobilenet_v2 with the weights 'embedded', which are one, got '{self.network}'; "
                "give weights of its own: --set cam.weights=FILE"
            )
        return self


class SaliencySettings(_Frozen):
    """Saliency, by which superpixels of one frame are compared (paper, section 4.1 and eq 3)."""

    method: Literal["none", "geodesic", "drfi"] = "geodesic"
    """`drfi`: the method's, a random forest over regions at several levels. `geodesic`: needs no forest. `none`: the
    context similarity is E alone."""
    forest: str = "embedded"
    """The forest (`drfi` only): an ONNX file that `onepixel saliency fit` wrote, or `embedded`: the small one, fitted
    on procedural scenes, that ships with onepixel."""

    @model_validator(mode="after")
    def _fits(self) -> "SaliencySettings":
        if self.forest != "embedded" and not self.forest.endswith(".onnx"):
            raise ValueError(f"forest must be 'embedded' or the path of an .onnx file, got '{self.forest}'")
        return self


class RepresentationSettings(_Frozen):
    """Optimal feature setting (paper, section 4.2)."""

    object_share: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the annotated frame's superpixels, the most similar ones, that describe an object class."""
    scene_neighbour_threshold: Fraction = 0.5
    """Superpixels with a context similarity, eq (3), above this belong to the annotated scene."""
    scene_group_threshold: Fraction = 0.5
    """Among them, colour x texture similarity above this joins two superpixels in one group."""
    scene_groups: Annotated[int, Field(ge=1)] = 5
    """Most groups G of a scene class; the largest stay."""


class PseudoLabelSettings(_Frozen):
    """Inference and context-location refinement (paper, sections 4.3 and 4.4)."""

    preset: Literal["literal", "paper"] = "paper"
    """`literal`: the paper's constants to the letter. `paper`: the same steps with thresholds relative to a class's
    scores over the data set and a sharpened context."""
    edge_scale: Annotated[float, Field(gt=0)] = 0.1
    """Sharpens the context: E(i, j) becomes exp(-(1 - E) / edge_scale) (`paper` only; `literal` takes E as it is)."""
    object_threshold: float = 2.0
    """An object's score must stand this many deviations above its mean over the data set (`paper` only)."""
    scene_threshold: float = -1.0
    """Likewise for scenes (`paper` only)."""
    literal_threshold: Fraction = 0.05
    """The paper's threshold of a score, for both kinds (`literal` only)."""
    round_threshold: Fraction = 0.5
    """In later rounds a superpixel whose refined share, eq (6), is below this is ignored."""


class NetworkSettings(_Frozen):
    """DeepLab on MobileNetV2."""

    output_stride: Literal[8, 16] = 16
    """Input pixels per cell of the feature map."""
    aspp_rates: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (6, 12, 18, 24)
    """Dilations of the atrous spatial pyramid's branches, in cells (DeepLab-v2)."""
    input_size: Size = (360, 480)
    """Height and width of the exported network's input, pixels."""


class TrainerSettings(_Frozen):
    """One round's training."""

    rounds: Annotated[int, Field(ge=1)] = 2
    """Trainings in all: the initial one on pseudo labels, then iterations."""
    updates: Annotated[int, Field(ge=1)] = 300
    """Optimiser steps in a round."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Crops in a step."""
    crop: Size = (225, 225)
    """Height and width of a crop, pixels."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """AdamW's, of the new layers at the first step; the backbone has 0.3 of it."""
    power: Annotated[float, Field(ge=0)] = 0.9
    """Exponent of the poly schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0001
    """AdamW's, of the convolutions' weights; biases and batch normalisation have none."""
    scales: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.75, 1.5)
    """Range of the random scale, from low to high."""
    batch_norm: Literal["frozen", "recalibrated"] = "frozen"
    """`frozen` keeps the statistics of the given weights; `recalibrated` measures them on training crops first."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 50
    """Updates between two checkpoints."""

    @model_validator(mode="after")
    def _ordered(self) -> "TrainerSettings":
        low, high = self.scales
        if low > high:
            raise ValueError(f"scales must go from low to high, got [{low}, {high}]; give [{high}, {low}]")
        return self


class TrackingSettings(_Frozen):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; None takes MLFLOW_TRACKING_URI, or else `mlflow.db` (SQLite) in the run's own folder."""
    experiment: str = "onepixel"
    """Name of the experiment."""


class Settings(_Frozen):
    """Everything that a run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the model that comes out, and of its folder."""
    seed: Seed = 0
    """Seed of every random choice in training; generated frames have their own, `dataset.seed`."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Processes for the per-frame stages; None takes one per core."""
    pixels: str
    """The annotated pixels: a shipped file's name, or the path of a YAML file."""
    dataset: DatasetSettings
    superpixels: SuperpixelSettings = SuperpixelSettings()
    cam: CamSettings = CamSettings()
    saliency: SaliencySettings = SaliencySettings()
    representation: RepresentationSettings = RepresentationSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainerSettings = TrainerSettings()
    tracking: TrackingSettings = TrackingSettings()


def shipped_configurations() -> list[str]:
    """Return the names of the shipped configurations."""
    names = [entry.name for entry in (files("training") / "configs").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_settings(config: str, overrides: Iterable[str] = ()) -> Settings:
    """Read a configuration and apply overrides.

    Parameters
    ----------
    config
        Name of a shipped configuration (`streets`, `camvid`, `cityscapes`) or path of a YAML file.
    overrides
        `key=value` texts; dots go into sections, values are YAML.

    Returns
    -------
    Settings
        Relative paths in it, `dataset.root`, `cam.weights` of a file, `saliency.forest` of a file and
        `pixels` of a file, are made absolute from
        the working directory, so that a run can be resumed and exported from any other.

    Raises
    ------
    InputError
        On an unknown configuration, an unreadable file, an unknown key or an impossible value.
    """
    shipped = files("training") / "configs" / f"{config}.yaml"
    if config.endswith((".yaml", ".yml")):
        source, text = config, _read(Path(config))
    elif shipped.is_file():
        source, text = f"configuration '{config}'", shipped.read_text("utf-8")
    else:
        raise InputError(
            f"unknown configuration '{config}': give a .yaml file or one of {', '.join(shipped_configurations())}"
        )
    tree = _parse(text, source)
    for override in overrides:
        _apply(tree, override)
    _make_absolute(tree, source)
    return _validate(tree, source)


def read_settings(path: Path) -> Settings:
    """Read the settings that a run left in its folder.

    Raises
    ------
    InputError
        If there are none, they are no YAML, or they are of another version.
    """
    return _validate(_parse(_read(path), str(path)), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"configuration {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"configuration {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of an impossible date
        raise InputError(f"{source} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"{source} must hold keys and values, got {tree!r}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: must be key=value, such as dataset.root=DIR")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"--set {override}: the value is not YAML: {error}") from error
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"--set {override}: '{section}' is a value, not a section")
    tree[last] = value


_PATHS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("dataset", "root"), ("",)),
    (("cam", "weights"), (".safetensors",)),
    (("saliency", "forest"), (".onnx",)),
    (("pixels",), (".yaml", ".yml")),
)
"""Keys that hold a path, and the endings that tell it from a name."""


def _make_absolute(tree: dict[str, Any], source: str) -> None:
    for (*sections, last), endings in _PATHS:
        place: Any = tree
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or not isinstance(value := place.get(last), str) or not value.endswith(endings):
            continue
        try:
            place[last] = str(Path(value).expanduser().resolve())
        except RuntimeError as error:  # `~name` of nobody
            raise InputError(f"{source}: {'.'.join((*sections, last))}: {error} ('{value}')") from error


def _validate(tree: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _keys(Settings)
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"{source}: unknown key '{key}'{hint}") from error
        message = problem["msg"].removeprefix("Value error, ")
        value = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
        raise InputError(f"{source}: {key}: {message}{value}") from error


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys
