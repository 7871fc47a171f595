"""What a run's folder holds that a page needs, where it is of the kind that other settings would make."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from serving.errors import InputError
from training.annotations.pixels import PixelFile
from training.configuration import read_settings
from training.features.extraction import BASIS
from training.settings import Settings

FREE_SETTINGS = {
    *("name", "seed", "workers", "pixels", "representation", "pseudo_labels", "propagation", "network", "training"),
    *("iterations", "prediction", "tracking", "dataset.limit", "dataset.evaluation"),
}
"""Settings, sections with all that is in them but for the method, on which a frame's features do not depend. (Those of
`propagation` depend on the limit through their basis, which is taken with them.)"""
METHOD = "pseudo_labels.method"
FREE_BY_METHOD = {
    "similarity": {"embedding"},
    "propagation": {"cam.encoder", "cam.slices", "cam.slice_height", "saliency"},
}
"""Settings on which those of one method alone do not depend."""


def link_features(settings: Settings, frame_ids: Iterable[str], run: Path, folder: Path) -> None:
    """Link the features of frames that a run's folder holds, and their basis, into another, as `<frame id>.npz`.

    Embeddings are worth nothing without their basis: where the run has none, its embeddings are left.

    Raises
    ------
    InputError
        If `run` is no pipeline's folder, or its features are of other settings.
    """
    if not (run / "state.json").exists():
        raise InputError(f"--run {run}: holds no run; give a folder that `onepixel train` made")
    free = FREE_SETTINGS | FREE_BY_METHOD[settings.pseudo_labels.method]
    other = {key: values for key, values in _differences(run, settings).items() if not _within(key, free)}
    if other:
        made = ", ".join(f"{key}={_text(theirs)} (not {_text(ours)})" for key, (theirs, ours) in other.items())
        mend = " ".join(f"--set {shlex.quote(f'{key}={_text(theirs)}')}" for key, (theirs, _) in other.items())
        raise InputError(f"--run {run}: its features were made with {made}; give {mend}, or leave --run out")
    if settings.pseudo_labels.method == "propagation":
        if not (run / "features" / BASIS).exists():
            return
        (folder / BASIS).symlink_to((run / "features" / BASIS).resolve())
    for name in (f"{frame_id}.npz" for frame_id in frame_ids):
        if (run / "features" / name).exists():
            (folder / name).symlink_to((run / "features" / name).resolve())


def solved_graph(settings: Settings, pixels: PixelFile, run: Path) -> Path | None:
    """Return the solved graph of a run whose features `link_features` has taken.

    Returns
    -------
    Path or None
        None where there is none yet, or it is of other frames, other annotated pixels or other settings.
    """
    graph = run / "round_0" / "pseudo_labels" / "graph.npz"
    if not graph.exists() or not (run / "features" / BASIS).exists():
        return None
    if yaml.safe_load((run / "pixels.yaml").read_text("utf-8")) != pixels.model_dump():
        return None
    for key in _differences(run, settings):
        if _within(key, {"dataset.limit", "propagation"}):
            return None
    return graph


def _differences(run: Path, settings: Settings) -> dict[str, tuple[Any, Any]]:
    # Each key that a run's settings have another value of, with both values.
    theirs = _flat(read_settings(run / "settings.yaml").model_dump(mode="json"))
    ours = _flat(settings.model_dump(mode="json"))
    return {key: (theirs.get(key), value) for key, value in ours.items() if theirs.get(key) != value}


def _within(key: str, sections: set[str]) -> bool:
    return key != METHOD and any(key == section or key.startswith(f"{section}.") for section in sections)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
