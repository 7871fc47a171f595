"""The job that improves a model from new frames that nobody has labelled, and promotes it if the gates allow.

The champion's own network labels the frames, together with the same annotated pixels, and is trained on. Everything
that the job makes lies in one folder, so that the same command goes on where a killed one stopped: the pipeline's
stages, the registration and the promotion can each be repeated. Only the last step, one entry in the ledger, changes
what is served.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.errors import InputError
from training.datasets.extra import images_by_content
from training.pipeline import Pipeline
from training.promotion.ledger import Entry, Superseded
from training.promotion.promotion import Promotion, Refused
from training.promotion.registration import register_run
from training.run_folder import claimed, write_json
from training.settings import Settings

DONE = "report.json"
"""Of a job that has ended, whatever came of it; a folder with it is begun anew."""


def retrain(
    settings: Settings, uri: str, frames: Path, out: Path | None, *, dry_run: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Label, train, register, gate and promote.

    Parameters
    ----------
    settings
        Of the trainings; where the champion comes from, its pixels and its weights take the place of theirs.
    uri
        Of MLflow.
    frames
        A folder of new images, at any depth. They are linked or copied first, so that it may go on changing.
    out
        The job's folder; None takes `runs/retrain/<name>-<champion>`.
    dry_run
        Stop before the promotion.
    warn
        Takes warnings for a person.

    Returns
    -------
    The report: `champion` (the one before), `candidate`, `promoted` (a version or None), `refused` (why not, or None),
    `frames`, `miou_class` by round, `gates`, `truth_seen`, `mlflow_run_id`, `seconds`, `out`.

    Raises
    ------
    InputError
        If there is no champion, it was registered without its run, another job has the folder, or as of `Pipeline`.
    """
    began = time.monotonic()
    promotion = Promotion(uri, settings.name)
    head = promotion.ledger.head()
    if head is None:
        raise InputError(
            f"{settings.name} has no champion to start from; `onepixel train`, `register`, `gates`, `promote` make one"
        )
    folder = out or Path("runs", "retrain", f"{settings.name}-{head.version}")
    with claimed(folder):
        _begin(folder, head, frames)
        champion = promotion.registry.download(head.version, folder / "champion")
        if champion.training is None:
            raise InputError(
                f"{settings.name} version {head.version}: registered without its run, so nothing to train on; register "
                "the run's folder"
            )
        job = _settings(settings, champion.training, folder / "frames")
        result = Pipeline(job, folder / "run", resume=True, warn=warn).run()
        candidate = register_run(promotion.registry, folder / "run").version
        gates = promotion.gate(candidate, settings)
        entry, refused = None, None
        if not dry_run:
            entry, refused = _promote(promotion, candidate, f"retrained on {frames}")
        report = {
            "name": settings.name,
            "champion": head.version,
            "candidate": candidate,
            "promoted": entry.version if entry else None,
            "refused": refused if gates.passed else "; ".join(g.name for g in gates.gates if g.passed is False),
            "frames": len(images_by_content(folder / "frames")),
            "miou_class": result["miou_class"],
            "gates": [asdict(gate) for gate in gates.gates],
            "truth_seen": gates.truth_seen,
            "mlflow_run_id": result["mlflow_run_id"],
            "seconds": round(time.monotonic() - began, 1),
            "out": str(folder),
        }
        write_json(folder / DONE, report)
    return report


def as_lines(report: dict[str, Any]) -> list[str]:
    """Lay a report out for a person."""
    words = {True: "passed", False: "FAILED", None: "-"}
    lines = [f"{gate['name']:<17} {words[gate['passed']]:<7} {gate['message']}" for gate in report["gates"]]
    if report["promoted"]:
        verdict = f"version {report['promoted']} is champion, in place of {report['champion']}"
    elif report["refused"]:
        verdict = f"version {report['candidate']} is refused ({report['refused']}); {report['champion']} stays champion"
    else:
        verdict = f"version {report['candidate']} may be promoted; {report['champion']} is champion"
    return [*lines, f"{report['frames']} new frames, {report['seconds']} s; {verdict}"]


def _promote(promotion: Promotion, candidate: str, why: str) -> tuple[Entry | None, str | None]:
    try:
        return promotion.promote(candidate, why=why), None
    except (Refused, Superseded) as error:
        return None, str(error)


def _settings(settings: Settings, training: Path, frames: Path) -> Settings:
    """Return the settings of the job: the champion's pixels and network, and the new frames."""
    dataset = settings.dataset.model_copy(update={"extra": frames.resolve()})
    start = (training / "network.safetensors").resolve()
    iterations = settings.iterations.model_copy(update={"start": start})
    pixels = str((training / "pixels.yaml").resolve())
    return settings.model_copy(update={"dataset": dataset, "iterations": iterations, "pixels": pixels})


def _begin(folder: Path, head: Entry, frames: Path) -> None:
    """Take the frames as they are now, unless an unfinished job for the same champion is there."""
    kept = folder / "frames"
    same_champion = not (folder / "champion").exists() or (folder / "champion" / head.version).is_dir()
    if kept.is_dir() and same_champion and not (folder / DONE).exists():
        return
    for name in ("run", "champion", "frames", DONE):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    part = folder / ".frames.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for frame_id, path in images_by_content(frames).items():
        _link(path, part / f"{frame_id}{path.suffix.lower()}")
    part.replace(kept)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it to another file system; one that has gone meanwhile is left out."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        return
    except OSError:
        shutil.copyfile(source, target)
