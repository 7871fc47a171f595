"""The features that a run's folder holds, where they are of the kind that other settings would make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.errors import InputError
from training.settings import Settings, read_settings

FREE_SETTINGS = {
    *("name", "seed", "workers", "pixels", "representation", "pseudo_labels", "network", "training", "tracking"),
    *("dataset.limit", "dataset.evaluation"),
}
"""Settings on which a frame's features do not depend."""


def cached_features(settings: Settings, frame_ids: Sequence[str], run: Path | None) -> dict[str, Path | None]:
    """Return for each frame the file of its features in a run's folder, None where there is no run or no file.

    Raises
    ------
    InputError
        If `run` is no pipeline's folder, or its features are of other settings.
    """
    if run is None:
        return dict.fromkeys(frame_ids)
    if not (run / "state.json").exists():
        raise InputError(f"--run {run}: holds no run; give a folder that `onepixel train` made")
    theirs = _flat(read_settings(run / "settings.yaml").model_dump(mode="json"))
    for key, value in _flat(settings.model_dump(mode="json")).items():
        if theirs.get(key) != value and not any(key == free or key.startswith(f"{free}.") for free in FREE_SETTINGS):
            raise InputError(
                f"--run {run}: its features were made with {key}={theirs.get(key)}, not {value}; "
                f"give --set {key}={theirs.get(key)}, or leave --run out"
            )
    places = {frame_id: run / "features" / f"{frame_id}.npz" for frame_id in frame_ids}
    return {frame_id: place if place.exists() else None for frame_id, place in places.items()}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
