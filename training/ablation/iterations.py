"""The paper's table 4 on any data set: what each round of the alternation is worth, and each option of the trainer.

A line is a whole run of the pipeline. Its figures are kept as one small JSON file in a folder that is tracked, so that
a series of hours can be stopped at any point and go on another day: a run whose file is there is not run again, and one
that was stopped resumes. Runs share what is the same in them: the features, and the first round where they differ in
later ones alone.
"""

import json
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
from training.datasets import open_dataset, taxonomy_of
from training.evaluation.figures import save_png
from training.pipeline import Pipeline
from training.run_folder import digest_of, file_digests, link_files, slug, write_json
from training.segmentation import distributed
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
    Line("one round, soft labels", ("iterations.rounds=1", "training.soft_labels=0.2")),
    Line("one round, larger crops", ("iterations.rounds=1", "training.crop={larger}", "training.batch={half}")),
    Line("one round, SGD", ("iterations.rounds=1", "training.optimizer=sgd")),
    Line("one round, a third of the updates", ("iterations.rounds=1", "training.updates={third}"), twin=True),
    Line("one round, the updates of four", ("iterations.rounds=1", "training.updates={fourfold}"), twin=True),
)
"""The rounds of our loop and the paper's, then what each option of the trainer is worth to the first round. What stands
in braces follows from the configuration: `larger` is 1.4 times the crop's sides, `half` of the batch, the updates."""
TRAINING_ALONE = {"training", "iterations", "seed", "twin"}
"""What features and the first round's labels, soft ones apart, do not depend on."""
LATER_ALONE = {"iterations", "twin"}
"""What the first round's network does not depend on."""


@dataclass(frozen=True, kw_only=True)
class IterationRow:
    """One round of one run; fractions."""

    table: str = "iterations"
    name: str
    seed: int
    round: int
    updates: int
    """Of the optimiser so far."""
    pseudo_miou_class: float | None
    """Of the pseudo labels that it was trained on."""
    val_miou_class: float | None
    """Of the network after it, on the evaluation split."""
    val_miou_category: float | None
    twin_miou_class: float | None = None
    """Of the twin with the same seed and as many updates, where one of the lines has trained it."""


def run_iterations(
    config: str, overrides: Sequence[str], out: Path, results: Path, *, warn: Callable[[str], None]
) -> list[IterationRow]:
    """Run the lines that have no result yet, and return the rows of all.

    After each run `iterations.md` and `iterations.png` are written anew.

    Parameters
    ----------
    config, overrides
        As for `load_settings`; a line's own settings win.
    out
        The folder for the runs and the table.
    results
        The folder for `<line>-<seed>.json`, which may be tracked: it holds figures, and what they depend on.
    warn
        Takes warnings for a person.

    Raises
    ------
    InputError
        If a split has no labels, a line's settings are impossible, several processes were started, or as of `Pipeline`.
    """
    if distributed.processes() > 1:
        raise InputError("--table iterations: runs one training after the other; start it without torchrun")
    base = load_settings(config, overrides)
    digests = {}
    for split in (base.dataset.train, base.dataset.evaluation):
        dataset = open_dataset(base.dataset, split)
        if not dataset.has_labels:
            raise InputError(f"--table iterations: split '{split}' has no labels to train the twin on or score by")
        digests[split] = dataset.digest()
    turns = range(max(line.seeds for line in LINES))  # all lines with one seed before any with a second one
    todo = [(line, base.seed + turn) for turn in turns for line in LINES if turn < line.seeds]
    planned = [(line, _settings(config, overrides, base, line, seed)) for line, seed in todo]
    known: list[dict[str, Any]] = []
    runs: list[tuple[dict[str, Any], Path]] = []
    for line, settings in planned:
        asked = _asked(settings, line.twin, digests)
        name = f"{slug(line.name)}-{settings.seed}"
        path = results / f"{name}.json"
        kept = json.loads(path.read_text()) if path.exists() else None
        if kept and known_before(asked, kept["asked"], _changed(settings, asked)) != kept["asked"]:
            kept = None
        run = out / "runs" / f"{name}-{kept['digest'] if kept else digest_of(asked)}"
        if kept is None:
            _take_over(runs, asked, run)
            report = Pipeline(settings, run, resume=True, warn=warn, twin=line.twin).run()
            kept = {"digest": digest_of(asked), "name": line.name, "asked": asked}
            kept |= {key: report[key] for key in ("pseudo_miou", "miou_class", "miou_category", "twin_miou_class")}
            write_json(path, kept)
        runs.append((asked, run))
        known.append(kept | {"asked": asked})
        rows = _rows(known)
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
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _settings(config: str, overrides: Sequence[str], base: Settings, line: Line, seed: int) -> Settings:
    training = base.training
    values = {
        "larger": [round(1.4 * side) for side in training.crop],
        "half": max(1, training.batch // 2),
        "third": max(1, training.updates // 3),
        "fourfold": 4 * training.updates,
    }
    differences = [difference.format(**values) for difference in line.differences]
    return load_settings(config, [*overrides, *differences, f"seed={seed}"])


def _asked(settings: Settings, twin: bool, digests: dict[str, str]) -> dict[str, Any]:
    """Return what a run's figures depend on: settings and the content of files, without the machine's paths."""
    pixels = load_pixels(settings.pixels, taxonomy_of(settings.dataset), settings.dataset.name)
    free = {"tracking", "workers", "pixels", "name", "prediction", "promotion"}
    asked = settings.model_dump(mode="json", exclude=free)
    for machine in ("root", "extra"):
        asked["dataset"].pop(machine)
    asked["training"].pop("checkpoint_every")
    files = file_digests(settings)
    for setting in files:
        section, key = setting.split(".")
        asked[section].pop(key)
    return asked | {"files": files, "frames": digests, "pixels": pixels.digest(), "twin": twin}


def _changed(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the part of what is asked that is not a setting at its default."""
    others = {key: value for key, value in asked.items() if key not in Settings.model_fields}
    return settings.model_dump(mode="json", exclude_defaults=True) | others


def known_before(asked: dict[str, Any], kept: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked without what a kept run did not know of and that is at its default.

    A setting that is added has a default that means "as before", so that what was kept before it stays valid. A default
    that is altered is another matter: what is kept holds the value of every setting that there was.

    Parameters
    ----------
    asked, kept
        What is asked of a run now, and what was asked of a kept one.
    changed
        The part of `asked` that is not at its default.
    """
    return {
        key: known_before(value, kept[key], changed.get(key, {})) if isinstance(value, dict) and key in kept else value
        for key, value in asked.items()
        if key in kept or key in changed
    }


def _rows(known: Sequence[dict[str, Any]]) -> list[IterationRow]:
    """Return a row for each round of each run, with the twin of as many updates."""
    twins: dict[str, float] = {}
    rows: list[tuple[str, IterationRow]] = []
    for kept in known:
        asked = kept["asked"]
        each, warm = asked["training"]["updates"], asked["iterations"]["warm_start"]
        figures = zip(kept["pseudo_miou"], kept["miou_class"], kept["miou_category"], strict=True)
        for number, (pseudo, miou, category) in enumerate(figures):
            updates = each * (number + 1 if warm else 1)
            row = IterationRow(
                name=kept["name"],
                seed=asked["seed"],
                round=number,
                updates=updates,
                pseudo_miou_class=pseudo,
                val_miou_class=miou,
                val_miou_category=category,
            )
            alike = _without(asked, LATER_ALONE) | {"training": asked["training"] | {"updates": updates}}
            rows.append((digest_of(alike), row))
        if kept["twin_miou_class"] is not None:
            twins[rows[-1][0]] = kept["twin_miou_class"]
    return [replace(row, twin_miou_class=twins.get(key)) for key, row in rows]


def _take_over(runs: Sequence[tuple[dict[str, Any], Path]], asked: dict[str, Any], run: Path) -> None:
    """Give a run the stages that earlier ones have completed and that are the same in it."""
    for stage in ("features", "bounds", "round_0/pseudo_labels", "round_0/network", "round_0/evaluation"):
        alike = (other for made, other in runs if _decides(made, stage) == _decides(asked, stage))
        source = next((other / stage for other in alike if (other / stage / "done.json").exists()), None)
        if source is not None:
            link_files(source, run / stage)


def _decides(asked: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return the part of what is asked of a run on which a stage depends."""
    if stage in ("round_0/network", "round_0/evaluation"):
        return _without(asked, LATER_ALONE)
    soft = {"soft_labels": asked["training"]["soft_labels"]} if stage == "round_0/pseudo_labels" else {}
    return _without(asked, TRAINING_ALONE) | soft


def _without(asked: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key not in keys}


def _mean(values: Sequence[float | None]) -> str:
    """Lay out the mean over the seeds, with the deviation where there are several."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    return f"{np.mean(known):.1f}" + (f" ± {np.std(known, ddof=1):.1f} ({len(known)})" if len(known) > 1 else "")


def as_json(rows: Sequence[IterationRow]) -> dict[str, Any]:
    """Return the rows as the command prints them."""
    return {"rows": [asdict(row) for row in rows]}
