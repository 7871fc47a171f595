"""Runs side by side: their figures, what differs in their settings, and the same frames."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from serving.errors import InputError
from serving.files import whole_file
from training.evaluation.figures import save_png
from training.experiments.runs import KnownRun, Runs

PATHS = ("tracking.", "workers", "dataset.root")
"""Settings that say where and how something ran, not what: left out of the differences."""
DIGESTS = {"pixels": "onepixel.pixels_digest", "dataset (training frames)": "onepixel.dataset_digest"}
"""What is compared by its sha256, not by its name, and the tags that hold them."""


@dataclass(frozen=True)
class Comparison:
    """Several runs, side by side."""

    runs: tuple[KnownRun, ...]
    """In the order in which they were asked for."""

    def metrics(self) -> dict[str, list[float | None]]:
        """Return each figure's last value in every run, by key; None where a run has none."""
        keys = sorted({key for run in self.runs for key in run.metrics}, key=_key_order)
        return {key: [_last(run.metrics.get(key)) for run in self.runs] for key in keys}

    def differences(self) -> dict[str, list[Any]]:
        """Return the settings in which the runs differ, by name with dots."""
        flat = [dict(_flatten(run.settings)) | _digests(run) for run in self.runs]
        keys = list(dict.fromkeys(key for one in flat for key in one))
        values = {key: [one.get(key) for one in flat] for key in keys if not key.startswith(PATHS)}
        return {key: each for key, each in values.items() if any(value != each[0] for value in each)}

    def as_json(self) -> dict[str, Any]:
        """Return all of it as a command prints it."""
        return {
            "runs": [{"run_id": run.run_id, "name": run.run.info.run_name} for run in self.runs],
            "metrics": self.metrics(),
            "differences": self.differences(),
        }

    def as_lines(self) -> list[str]:
        """Lay it out for a person: percent with one decimal."""
        header = [run.label for run in self.runs]
        width = max(map(len, header)) + 2
        lines = ["".join([f"{'':<40}", *(f"{label:>{width}}" for label in header)])]
        for key, values in self.metrics().items():
            cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
            lines.append("".join([f"{key:<40}", *(f"{cell:>{width}}" for cell in cells)]))
        lines += ["", "settings that differ" if self.differences() else "no setting differs"]
        for key, values in self.differences().items():
            lines.append(f"{key}: " + " | ".join(json.dumps(value) for value in values))
        return lines


def compare_runs(asked: Sequence[tuple[str, str]], out: Path | None) -> Comparison:
    """Read runs, and draw them where a folder is given.

    Parameters
    ----------
    asked
        Two or more runs, each by MLflow's URI and the run's identifier there.
    out
        Takes `comparison.png` (class IoUs), `comparison.json` and `frames/`, each frame as every run saw it; None draws
        nothing.

    Raises
    ------
    InputError
        If there are fewer than two, or one is no pipeline's.
    """
    if len(set(asked)) < 2:
        names = ", ".join(run_id for _, run_id in asked)
        raise InputError(f"RUN: two or more different runs are compared, got {names or 'none'}")

    with tempfile.TemporaryDirectory() as temporary:
        places = {uri: Runs(uri) for uri in dict.fromkeys(uri for uri, _ in asked)}
        known = tuple(places[uri].read(run_id, Path(temporary) / run_id) for uri, run_id in asked)
        comparison = Comparison(known)
        if out is not None:
            figures = [
                places[uri].figures(run, Path(temporary) / run.run_id)
                for (uri, _), run in zip(asked, known, strict=True)
            ]
            _draw(comparison, figures, out)
    return comparison


def draw_ious(comparison: Comparison, prefix: str = "val/iou/") -> NDArray[np.uint8]:
    """Draw every class's IoU, a bar for each run, uint8 [H, W, 3]."""
    rows = {key.removeprefix(prefix): values for key, values in comparison.metrics().items() if key.startswith(prefix)}
    drawing = Figure(
        figsize=(8, 1.2 + 0.3 * max(1, len(rows)) * len(comparison.runs) ** 0.5), dpi=120, layout="constrained"
    )
    canvas = FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    places, height = np.arange(len(rows))[::-1], 0.8 / len(comparison.runs)
    for number, run in enumerate(comparison.runs):
        values = [100 * (each[number] or 0) for each in rows.values()]
        axes.barh(places + 0.4 - (number + 0.5) * height, values, height=0.92 * height, label=run.label)
    axes.set_yticks(places, list(rows))
    axes.set_xlabel("IoU on the evaluation split, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def stacked(pictures: Sequence[Path]) -> NDArray[np.uint8]:
    """Put pictures one under the other, uint8 [H, W, 3], as wide as the widest, the rest white."""
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
    width = max(array.shape[1] for array in arrays)
    return np.vstack([np.pad(one, ((0, 4), (0, width - one.shape[1]), (0, 0)), constant_values=255) for one in arrays])


def _draw(comparison: Comparison, figures: Sequence[dict[str, Path]], out: Path) -> None:
    save_png(draw_ious(comparison), out / "comparison.png")
    with whole_file(out / "comparison.json") as temporary:
        temporary.write_text(json.dumps(comparison.as_json(), indent=2) + "\n")
    shared = set(figures[0]).intersection(*figures[1:]) - {"confusion"}
    for name in sorted(shared):
        save_png(stacked([each[name] for each in figures]), out / "frames" / f"{name}.png")


def _digests(run: KnownRun) -> dict[str, str | None]:
    return {key: run.run.data.tags.get(tag) for key, tag in DIGESTS.items()}


def _last(history: dict[int, float] | None) -> float | None:
    return history[max(history)] if history else None


def _key_order(key: str) -> tuple[bool, str]:
    return ("/iou/" in key, key)


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found
