"""Where settings come from: a configuration that ships or is a file, `--set key=value`, and a preset beneath them.

`load_settings` answers one validated `Settings` object with absolute paths. An unknown key or an impossible value is an
`InputError` that names both.
"""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from serving.configuration import apply_override, parse, read_text, validate
from serving.errors import InputError
from training.settings import Settings
from training.settings.method import PseudoLabelSettings


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
        Relative paths in it, `dataset.root`, `dataset.extra`, `iterations.start`, `cam.weights` and `network.weights`
        of a file, `saliency.forest` of a file and `pixels` of a file, are made absolute from the working directory, so
        that a run can be resumed and exported from any other.

    Raises
    ------
    InputError
        On an unknown configuration, an unreadable file, an unknown key or an impossible value.
    """
    shipped = files("training") / "configs" / f"{config}.yaml"
    if config.endswith((".yaml", ".yml")):
        source, text = config, read_text(Path(config))
    elif shipped.is_file():
        source, text = f"configuration '{config}'", shipped.read_text("utf-8")
    else:
        raise InputError(
            f"unknown configuration '{config}': give a .yaml file or one of {', '.join(shipped_configurations())}"
        )
    tree, overrides = parse(text, source), tuple(overrides)
    for override in overrides:
        apply_override(tree, override, "dataset.root=DIR")
    _make_absolute(tree, source)
    return validate(Settings, _with_preset(tree), source, overrides)


def read_settings(path: Path) -> Settings:
    """Read the settings that a run left in its folder.

    Raises
    ------
    InputError
        If there are none, they are no YAML, or they are of another version.
    """
    tree = parse(read_text(path), str(path))
    try:
        return validate(Settings, tree, str(path))
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
    for section, values in parse(shipped.read_text("utf-8"), f"preset '{name}'").items():
        given = tree.get(section, {})
        merged[section] = values | given if isinstance(given, dict) else given
    return merged


_PATHS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("dataset", "root"), ("",)),
    (("dataset", "extra"), ("",)),
    (("iterations", "start"), (".safetensors",)),
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
