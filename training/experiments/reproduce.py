"""A run built again from what MLflow has of it, and how far the two agree."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.configuration import apply_override, validate
from serving.errors import InputError
from training.annotations.pixels import load_pixels
from training.datasets import open_dataset
from training.experiments.provenance import installed_versions, run_tags
from training.experiments.runs import KnownRun, Runs
from training.pipeline import Pipeline
from training.settings import Settings


def reproduce(
    uri: str, run_id: str, out: Path | None, overrides: Sequence[str], *, resume: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Run a pipeline again with the settings and the pixels that a run was started with.

    Parameters
    ----------
    uri
        Of MLflow, which takes the new run, too.
    run_id
        The run.
    out
        The new run's folder; None takes `runs/reproduced/<run_id>`.
    overrides
        `key=value` texts for what differs on this machine, such as `dataset.root=DIR`.
    resume
        Go on with what is in the folder.
    warn
        Takes what differs: the commit, the installed versions.

    Returns
    -------
    The report: `run_id`, `again` (the new run), `same` (whether every figure is equal), `largest_difference` (of any
    figure that both have), `differences` (figure to the two values, None where the new run has none), `out`.

    Raises
    ------
    InputError
        If MLflow does not know the run, or the data set or the pixels are not those of then.
    """
    folder = out or Path("runs", "reproduced", run_id)
    runs = Runs(uri)
    known = runs.read(run_id, folder / "original")
    settings = _settings(known, folder, uri, overrides)
    _warn_of_differences(runs, known, folder, warn)
    _check_data(known, settings)
    twin = any(key.startswith("twin/") for key in known.metrics)
    if twin and settings.iterations.start is not None:
        warn("its twin began otherwise than its rounds, which is refused now: the run is reproduced without it")
        twin = False
    pipeline = Pipeline(settings, folder / "run", resume=resume, warn=warn, twin=twin)
    report = pipeline.run()
    again = runs.read(report["mlflow_run_id"], folder / "again")
    differences: dict[str, tuple[float, float | None]] = {
        f"{key} at step {step}": (value, again.metrics.get(key, {}).get(step))
        for key, history in known.metrics.items()
        for step, value in history.items()
        if again.metrics.get(key, {}).get(step) != value
    }
    sizes = [abs(then - now) for then, now in differences.values() if now is not None]
    return {
        "run_id": known.run_id,
        "again": again.run_id,
        "same": not differences,
        "largest_difference": max(sizes, default=0.0),
        "differences": differences,
        "out": str(folder),
    }


def as_lines(report: dict[str, Any]) -> list[str]:
    """Lay a report out for a person."""
    lines = [
        f"{key}: {then} then, {'none' if now is None else now} now"
        for key, (then, now) in report["differences"].items()
    ]
    verdict = (
        "every figure is the same"
        if report["same"]
        else f"the largest difference is {report['largest_difference']:.2g}"
    )
    return [*lines, f"run {report['run_id']} again as {report['again']} in {report['out']}: {verdict}"]


def _settings(known: KnownRun, folder: Path, uri: str, overrides: Sequence[str]) -> Settings:
    tree = dict(known.settings)
    for override in (f"pixels={folder / 'original' / 'pixels.yaml'}", f"tracking.uri={uri}", *overrides):
        apply_override(tree, override, "dataset.root=DIR")
    return validate(Settings, tree, f"settings of run {known.run_id}")


def _check_data(known: KnownRun, settings: Settings) -> None:
    """Refuse other data before the folder is claimed, so that the command can be given again with the right ones."""
    split = open_dataset(settings.dataset, settings.dataset.train)
    pixels = load_pixels(settings.pixels, split.taxonomy, settings.dataset.name)
    for what, digest, setting in (
        ("dataset", split.digest(), "dataset.root=DIR"),
        ("pixels", pixels.digest(), "pixels"),
    ):
        then = known.run.data.tags.get(f"onepixel.{what}_digest")
        if then != digest:
            raise InputError(
                f"--set {setting}: the {what} of run {known.run_id} had sha256 {then}, here it is {digest}"
            )


def _warn_of_differences(runs: Runs, known: KnownRun, folder: Path, warn: Callable[[str], None]) -> None:
    then, now = known.run.data.tags, run_tags()
    for tag in ("mlflow.source.git.commit", "onepixel.python"):
        if then.get(tag) != now.get(tag):
            warn(f"{tag} was {then.get(tag, 'unknown')}, here it is {now.get(tag, 'unknown')}")
    if then.get("onepixel.git_dirty") == "true":
        warn("the checkout had changes that were not committed")
    installed = runs.fetch(known.run_id, "installed.txt", folder / "original").read_text()
    before, here = (dict(line.split("==", 1) for line in text.split()) for text in (installed, installed_versions()))
    other = [
        f"{name} {before.get(name, 'none')} -> {here.get(name, 'none')}"
        for name in sorted({*before, *here})
        if before.get(name) != here.get(name)
    ]
    if other:
        warn(f"other versions are installed: {', '.join(other)}")
