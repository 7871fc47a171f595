"""Where settings come from: a configuration that ships or is a file, `--set key=value`, and a preset beneath them.

`load_settings` answers one validated `Settings` object with absolute paths. An unknown key or an impossible value is an
`InputError` that names both.
"""

import difflib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from serving.errors import InputError
from training.settings import PseudoLabelSettings, Settings


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
        `key=value` texts; dots go into sections, values are YAML. What neither they nor the configuration give, the
        preset does (`pseudo_labels.preset`).

    Returns
    -------
    Settings
        Relative paths in it, `dataset.root`, `cam.weights` and `network.weights` of a file, `saliency.forest` of a
        file and `pixels` of a file, are made absolute from the working directory, so that a run can be resumed and
        exported from any other.

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
    return _validate(_with_preset(tree), source)


def read_settings(path: Path) -> Settings:
    """Read the settings that a run left in its folder.

    Raises
    ------
    InputError
        If there are none, they are no YAML, or they are of another version.
    """
    tree = _parse(_read(path), str(path))
    try:
        return _validate(tree, str(path))
    except InputError as error:
        raise InputError(f"{path.parent}: this run is of another version of onepixel; run it anew ({error})") from error


def _with_preset(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the preset's values where none are given."""
    labels = tree.get("pseudo_labels", {})
    name = labels.get("preset", PseudoLabelSettings().preset) if isinstance(labels, dict) else None
    shipped = files("training") / "configs" / "presets" / f"{name}.yaml"
    if not shipped.is_file():
        return tree  # validation says what is wrong
    merged = dict(tree)
    for section, values in _parse(shipped.read_text("utf-8"), f"preset '{name}'").items():
        given = tree.get(section, {})
        merged[section] = values | given if isinstance(given, dict) else given
    return merged


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
    (("network", "weights"), (".safetensors",)),
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
