"""`onepixel evaluate`: masks from a model, a run's weights, a folder or a server against the truth of a split.

Frames go the way that a server sends them, and one frame's masks are held at a time.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serving.errors import InputError
from serving.files import whole_file
from training.datasets import Dataset, evenly_spaced, open_dataset
from training.evaluation.confusion import write_confusion
from training.evaluation.evaluation import Evaluation
from training.evaluation.masks import MaskFolder
from training.evaluation.sources import Source, open_checkpoint, open_model, open_predictions, open_server
from training.settings import Settings

Keep = Callable[[str, NDArray[np.uint8]], object]
"""Takes a frame's identifier and its mask, uint8 [H, W]."""


def run_evaluation(
    settings: Settings,
    split: str,
    *,
    model: Path | None = None,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    server: str | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Score exactly one source of masks on a split.

    Parameters
    ----------
    settings
        `dataset` says where the frames are and how many are scored, `prediction` how a checkpoint sees them.
    split
        The split. One without labels gets masks alone, and only with `out`.
    model, checkpoint, predictions, server
        An exported ONNX file; a run's network.safetensors; a folder of masks; HOST:PORT of a server.
    out
        A folder for the masks (`MaskFolder`), `confusion.csv`, `confusion.png` and `report.json`; None writes nothing.
    overrides
        What was given as `--set` takes it, and is in `settings`; a run's network takes none.
    warn
        Takes warnings for a person.

    Returns
    -------
    dict
        `Evaluation.report`, with `model_digest` (None where no ONNX file answers), `unreadable` (the frames that were
        left out), `source`, `dataset` and `split`. It can be written as JSON.

    Raises
    ------
    InputError
        If not exactly one source is given, it does not fit the data set, a frame or mask cannot be read, or the split
        has no labels.
    """
    given = {"model": model, "checkpoint": checkpoint, "predictions": predictions, "server": server}
    chosen = [f"--{name}" for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        options = ", ".join(f"--{name}" for name in given)
        raise InputError(f"give exactly one of {options}; got {' and '.join(chosen) or 'none'}")
    if out and predictions and out.resolve().is_relative_to(predictions.resolve()):
        raise InputError(f"--out {out}: lies in --predictions {predictions}, whose masks it would double; name another")
    dataset = open_dataset(settings.dataset, split)
    if not dataset.has_labels and out is None:
        raise InputError(f"--split {split}: has no labels to evaluate against; --out DIR would write its masks")
    frame_ids = evenly_spaced(dataset.frame_ids, settings.dataset.limit)
    if len(frame_ids) < len(dataset):
        warn(f"dataset.limit={len(frame_ids)}: {len(frame_ids)} of the {len(dataset)} frames of '{split}' are scored")
    if not dataset.has_labels:
        warn(f"'{split}' has no labels: its masks are written, no figure is defined")
    keep = MaskFolder(out, dataset.taxonomy, submission=settings.dataset.name == "cityscapes").write if out else None
    opened: AbstractContextManager[Source]
    if model is not None:
        opened = open_model(model, dataset)
    elif checkpoint is not None:
        opened = open_checkpoint(checkpoint, settings, dataset, overrides)
    elif predictions is not None:
        opened = open_predictions(predictions, settings, dataset)
    else:
        opened = open_server(str(server), dataset)
    with opened as source:
        evaluation = evaluate(source, dataset, frame_ids, keep)
    if dataset.has_labels and not evaluation.confusion.counts.any():
        warn("every true label of the scored frames is 255, which counts for nobody: no figure is defined")
    report = {
        **evaluation.report(),
        "model_digest": source.model_digest,
        "unreadable": list(dataset.unreadable),
        "source": source.name,
        "dataset": settings.dataset.name,
        "split": split,
    }
    if out:
        write_confusion(evaluation.confusion, out)
        with whole_file(out / "report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def evaluate(source: Source, dataset: Dataset, frame_ids: Sequence[str], keep: Keep | None = None) -> Evaluation:
    """Score a source's masks frame by frame.

    Parameters
    ----------
    source
        What answers.
    dataset
        The split.
    frame_ids
        Frames of the split, those to be scored.
    keep
        Is given each mask.

    Raises
    ------
    InputError
        If a frame or a mask cannot be read, or a mask is of another size than the truth; names the file.
    """
    evaluation = Evaluation(dataset.taxonomy)
    for frame_id in tqdm(frame_ids, desc="evaluation", unit="frame", disable=None):
        class_ids, confidence = source.answer(frame_id)
        if dataset.has_labels:
            truth = dataset.labels(frame_id)
            if class_ids.shape != truth.shape:
                raise InputError(
                    f"{source.files.get(frame_id, source.name)}: the mask of frame '{frame_id}' is "
                    f"{class_ids.shape[0]} x {class_ids.shape[1]} (height x width), its truth is "
                    f"{truth.shape[0]} x {truth.shape[1]}; they must be equal"
                )
            evaluation.update(truth, class_ids, confidence)
        if keep:
            keep(frame_id, class_ids)
    return evaluation


def as_lines(report: dict[str, Any]) -> list[str]:
    """Lay a report out for a person, in percent."""
    columns = ("iou", "precision", "recall", "boundary_f")
    lines = [f"{'%':<24}{'IoU':>9}{'precision':>11}{'recall':>9}{'boundary F':>12}"]
    for name in report["iou"]:
        iou, precision, recall, boundary = (_percent(report[column][name]) for column in columns)
        lines.append(f"{name:<24}{iou:>9}{precision:>11}{recall:>9}{boundary:>12}")
    means = {
        "mean, class": "miou_class",
        "mean, category": "miou_category",
        "frequency-weighted": "frequency_weighted_iou",
        "pixel accuracy": "pixel_accuracy",
        "boundary F, mean": "mean_boundary_f",
        "calibration error": "calibration_error",
    }
    lines += ["", *(f"{name:<24}{_percent(report[key]):>9}" for name, key in means.items())]
    left_out = f", {len(report['unreadable'])} unreadable" if report["unreadable"] else ""
    return [*lines, f"{'frames':<24}{report['frames']:>9}{left_out}"]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"
