"""The paper's table 4 on any data set: what each round of the alternation is worth, and each option of the trainer.

A line is a whole run of the pipeline. Its figures are kept as one small JSON file in a folder that is tracked, so that
a series of hours can be stopped at any point and go on another day: a run whose file is there is not run again, and one
that was stopped resumes. Runs share what is the same in them: the features, and the first round where they differ in
later ones alone.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from serving.errors import InputError
from serving.files import whole_file
from training.annotations.pixels import load_pixels
from training.configuration import load_settings
from training.datasets import open_dataset
from training.evaluation.figures import save_png
from training.pipeline import Pipeline
from training.run_folder import digest_of, write_json
from training.settings import Settings


@dataclass(frozen=True)
class Line:
    """A run, or several with other seeds."""

    name: str
    differences: tuple[str, ...] = ()
    """Settings in which it differs, as `--set` takes them."""
    seeds: int = 1
    twin: bool = False
    """Whether the fully supervised twin is trained, with as many updates."""


LINES = (
    Line("one round", ("iterations.rounds=1",), twin=True),
    Line("best", ("iterations.loop=best", "iterations.rounds=4"), seeds=3),
    Line("paper", ("iterations.loop=paper", "iterations.rounds=4"), seeds=3),
    Line("paper without refinement", ("iterations.loop=paper", "iterations.rounds=4", "iterations.refine=false")),
    Line("best, each round from the first weights", ("iterations.rounds=4", "iterations.warm_start=false")),
    Line("one round, averaged weights", ("iterations.rounds=1", "training.average=0.98")),
    Line("one round, class balance", ("iterations.rounds=1", "training.class_balance=0.3")),
    Line("one round, ClassMix", ("iterations.rounds=1", "training.class_mix=0.5")),
    Line("one round, confidence weights", ("iterations.rounds=1", "training.confidence_weights=true")),
    Line("one round, larger crops", ("iterations.rounds=1", "training.crop=[321, 321]", "training.batch=2")),
    Line("one round, SGD", ("iterations.rounds=1", "training.optimizer=sgd")),
    Line("one round, a third of the updates", ("iterations.rounds=1", "training.updates=300"), twin=True),
    Line("one round, the updates of four", ("iterations.rounds=1", "training.updates=3600"), twin=True),
)
"""The rounds of the paper's loop and of ours, then what each option of the trainer is worth to the first round."""


@dataclass(frozen=True, kw_only=True)
class IterationRow:
    """One round of one run; fractions."""

    table: str = "iterations"
    name: str
    seed: int
    round: int
    pseudo_miou_class: float | None
    """Of the pseudo labels that it was trained on."""
    val_miou_class: float | None
    """Of the network after it, on the evaluation split."""
    val_miou_category: float | None
    twin_miou_class: float | None = None
    """Of the twin with as many updates as the whole run, in the run's last row."""


def run_iterations(
    config: str, overrides: Sequence[str], out: Path, results: Path, *, warn: Callable[[str], None]
) -> list[IterationRow]:
    """Run the lines that have no result yet, write `iterations.md` and `.png`, and return the rows of all.

    Parameters
    ----------
    config, overrides
        As for `load_settings`; a line's own settings win.
    out
        The folder for the runs.
    results
        The folder for `<line>-<seed>.json`, which may be tracked: it holds figures alone.
    warn
        Takes warnings for a person.

    Raises
    ------
    InputError
        If the evaluation split has no labels, or as of `Pipeline`.
    """
    base = load_settings(config, overrides)
    if not open_dataset(base.dataset, base.dataset.evaluation).has_labels:
        raise InputError(f"dataset.evaluation: split '{base.dataset.evaluation}' has no labels to score networks by")
    rows = []
    firsts: dict[str, Path] = {}
    # All lines with one seed before any with a second one.
    for turn in range(max(line.seeds for line in LINES)):
        for line in (line for line in LINES if turn < line.seeds):
            seed = base.seed + turn
            settings = load_settings(config, [*overrides, *line.differences, f"seed={seed}"])
            asked = _asked(settings, line.twin)
            path = results / f"{_slug(line.name)}-{seed}.json"
            run = out / "runs" / f"{_slug(line.name)}-{seed}"
            alike = {key: value for key, value in asked.items() if key not in ("iterations", "twin")}
            first = firsts.setdefault(digest_of(alike), run)
            kept = json.loads(path.read_text()) if path.exists() else None
            if kept is None or kept["digest"] != digest_of(asked):
                for stage in ("features", "bounds", "round_0"):
                    _link(first / stage, run / stage)
                report = Pipeline(settings, run, resume=True, warn=warn).run(twin=line.twin)
                kept = {"digest": digest_of(asked), "name": line.name, "seed": seed}
                kept |= {key: report[key] for key in ("pseudo_miou", "miou_class", "miou_category", "twin_miou_class")}
                write_json(path, kept)
            rows += _rows(kept)
    with whole_file(out / "iterations.md") as temporary:
        temporary.write_text(markdown(rows), "utf-8")
    save_png(figure(rows), out / "iterations.png")
    return rows


def markdown(rows: Sequence[IterationRow]) -> str:
    """Return the rows as a Markdown table, percent with one decimal; several seeds of a round are one line."""
    lines = [
        "|  | round | pseudo labels | val mIoU class | val mIoU category | twin | of the twin |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, number in dict.fromkeys((row.name, row.round) for row in rows):
        here = [row for row in rows if (row.name, row.round) == (name, number)]
        pseudo, miou, category = (
            _mean([getattr(row, key) for row in here])
            for key in ("pseudo_miou_class", "val_miou_class", "val_miou_category")
        )
        twin = _mean([row.twin_miou_class for row in here])
        ratios = [
            row.val_miou_class / row.twin_miou_class for row in here if row.val_miou_class and row.twin_miou_class
        ]
        ratio = f"{np.mean(ratios):.2f}" if ratios else "-"
        lines.append(f"| {name} | {number} | {pseudo} | {miou} | {category} | {twin} | {ratio} |")
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[IterationRow]) -> NDArray[np.uint8]:
    """Draw the evaluation split's class mIoU over the rounds, one line for each run of several, uint8 [H, W, 3]."""
    drawing = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    for name in dict.fromkeys(row.name for row in rows if row.round):
        numbers = sorted({row.round for row in rows if row.name == name})
        means = [
            100 * np.mean([row.val_miou_class or 0 for row in rows if (row.name, row.round) == (name, number)])
            for number in numbers
        ]
        axes.plot(numbers, means, marker="o", label=name)
    axes.set_xticks(sorted({row.round for row in rows}))
    axes.set_xlabel("round")
    axes.set_ylabel("class mIoU on the evaluation split, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _rows(kept: dict[str, Any]) -> list[IterationRow]:
    rounds = zip(kept["pseudo_miou"], kept["miou_class"], kept["miou_category"], strict=True)
    rows = [
        IterationRow(
            name=kept["name"],
            seed=kept["seed"],
            round=number,
            pseudo_miou_class=pseudo,
            val_miou_class=miou,
            val_miou_category=category,
        )
        for number, (pseudo, miou, category) in enumerate(rounds)
    ]
    rows[-1] = replace(rows[-1], twin_miou_class=kept["twin_miou_class"])
    return rows


def _asked(settings: Settings, twin: bool) -> dict[str, Any]:
    """Return what a run's figures depend on, without the machine's paths."""
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    asked = settings.model_dump(mode="json", exclude={"tracking", "workers", "pixels", "name"})
    asked["dataset"].pop("root")
    for section in ("cam", "network"):
        asked[section]["weights"] = Path(asked[section]["weights"] or "").name
    return asked | {"pixels": pixels.digest(), "twin": twin}


def _link(source: Path, target: Path) -> None:
    """Give a stage that another run has completed to this one; its files are replaced as a whole, never written to."""
    if source == target or (not (source / "done.json").exists() and not list(source.glob("*/done.json"))):
        return
    for file in (path for path in source.rglob("*") if path.is_file()):
        there = target / file.relative_to(source)
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, there)


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _mean(values: Sequence[float | None]) -> str:
    """Lay out the mean over the seeds, with the deviation where there are several."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.1f}" + (f" ± {np.std(known, ddof=1):.1f} ({len(known)})" if len(known) > 1 else "")


def as_json(rows: Sequence[IterationRow]) -> dict[str, Any]:
    """Return the rows as the command prints them."""
    return {"rows": [asdict(row) for row in rows]}
