"""`onepixel annotations check`: features of some frames, the report, and how a person and a program read it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from serving.errors import InputError
from training.annotations.check import AnnotationReport, check_annotations
from training.annotations.pixels import check_places, load_pixels
from training.datasets import evenly_spaced, open_dataset
from training.features.embedding import EmbeddedRegions
from training.features.extraction import extract_features
from training.inspection.cached import link_features
from training.settings import Settings

PAIRS = 3
"""Pairs of classes that a person is shown."""


def survey_annotations(settings: Settings, run: Path | None, limit: int) -> AnnotationReport:
    """Judge the annotated pixels of a configuration; no labels are read.

    Parameters
    ----------
    settings
        As of a training with `pseudo_labels.method` propagation.
    run
        The folder of a pipeline, whose features are taken, and preferred; all else is made, and kept nowhere.
    limit
        Frames, evenly spaced over the training split, besides the annotated ones.

    Raises
    ------
    InputError
        If the method is another, the run has features of another kind, or as for a training.
    """
    if settings.pseudo_labels.method != "propagation":
        raise InputError(
            f"pseudo_labels.method is '{settings.pseudo_labels.method}'; pixels are judged by the graph of "
            "'propagation': give --set pseudo_labels.preset=best"
        )
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    pixels = load_pixels(settings.pixels, dataset.taxonomy, settings.dataset.name)
    check_places(pixels, dataset, settings.pixels)
    frame_ids = evenly_spaced(dataset.frame_ids, settings.dataset.limit)
    if run is not None:
        frame_ids = [name for name in frame_ids if (run / "features" / f"{name}.npz").exists()] or frame_ids
    needed = list(dict.fromkeys([*evenly_spaced(frame_ids, limit), *pixels.frame_ids]))
    with TemporaryDirectory(prefix="onepixel-") as made:
        folder = Path(made)
        if run is not None:
            link_features(settings, needed, run, folder)
        extract_features(settings, needed, folder)
        frames = {
            name: EmbeddedRegions.load(folder / f"{name}.npz")
            for name in tqdm(needed, desc="regions", unit="frame", delay=2, disable=None)
        }
    images = {name: dataset.frame(name) for name in pixels.frame_ids}
    return check_annotations(frames, images, pixels, dataset.taxonomy, settings)


def as_json(report: AnnotationReport) -> dict[str, Any]:
    """Return a report as a program reads it: fractions in [0, 1]."""
    return {
        "frames": report.frames,
        "pixels": [
            {
                "class": pixel.name,
                "image": pixel.pixel.image,
                "x": pixel.pixel.x,
                "y": pixel.pixel.y,
                "area": pixel.area,
                "border": pixel.border,
                "purity": pixel.purity,
                "share": pixel.share,
                "discriminative": pixel.discriminative,
                "candidates": [vars(candidate) for candidate in pixel.candidates],
                "warnings": list(pixel.warnings),
            }
            for pixel in report.pixels
        ],
        "pairs": [{"classes": list(pair.names), "interchangeable": pair.interchangeable} for pair in report.pairs],
        "warnings": report.warnings,
    }


def as_lines(report: AnnotationReport) -> list[str]:
    """Return a report as a person reads it: percent with one decimal, pixels as they are."""
    width = max(len(pixel.name) for pixel in report.pixels)
    frame = max(len(pixel.pixel.image) for pixel in report.pixels)
    head = f"{'':<{width}}  {'':<{frame}}     x     y  region, px  border, px  pure, %  wins, % of area  surely, %"
    lines = [f"annotated pixels, over {report.frames} frames", head]
    for pixel in report.pixels:
        border = "-" if pixel.border is None else f"{pixel.border:.1f}"
        lines.append(
            f"{pixel.name:<{width}}  {pixel.pixel.image:<{frame}} {pixel.pixel.x:>5} {pixel.pixel.y:>5} "
            f"{pixel.area:>11} {border:>11} {100 * pixel.purity:>8.1f} {100 * pixel.share:>16.1f} "
            f"{100 * pixel.discriminative:>10.1f}"
        )
    lines += ["", "most nearly interchangeable, %"]
    lines += [f"{' and '.join(pair.names):<{2 * width + 5}} {100 * pair.interchangeable:5.1f}"
              for pair in report.pairs[:PAIRS]]  # fmt: skip
    better = [(pixel, candidate) for pixel in report.pixels for candidate in pixel.candidates]
    lines += ["", f"more distinct pixels in the same frame, if you see the class there\n{head}" if better else
              "no clearly more distinct pixel in the same frames"]  # fmt: skip
    lines += [
        f"{pixel.name:<{width}}  {pixel.pixel.image:<{frame}} {candidate.x:>5} {candidate.y:>5} {candidate.area:>11} "
        f"{'':>11} {100 * candidate.purity:>8.1f} {'':>16} {100 * candidate.discriminative:>10.1f}"
        for pixel, candidate in better
    ]
    return [*lines, "", *(report.warnings or ["nothing to warn of"])]
