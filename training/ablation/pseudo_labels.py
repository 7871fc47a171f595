"""The paper's tables, and the presets, on any data set: what each part of the method is worth to the pseudo labels.

A row is a preset with a few settings that differ. Its pseudo labels are scored on the training split, for the
configured pixel file and for others with pixels in other frames, so that no figure hangs on one choice of pixels.
Features are made once for all rows that share them.
"""

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from serving.errors import InputError
from serving.files import whole_file
from training.annotations.pixels import PixelFile, check_pixels, load_pixels, sibling_files
from training.configuration import load_settings
from training.datasets import Dataset, evenly_spaced, open_dataset
from training.evaluation.figures import save_png
from training.evaluation.metrics import ConfusionMatrix, band_prior_labels, region_oracle
from training.features.extraction import extract_features
from training.features.regions import RegionFeatures
from training.pipeline import Pipeline
from training.pseudo_labels.scoring import score_frames
from training.run_folder import digest_of, file_digests, link_files, slug
from training.settings import Settings
from training.tracking import Tracker, tracking_uri

Variant = tuple[str, tuple[str, ...]]
"""Name of a row, and the settings in which it differs."""

PAPER = "pseudo_labels.preset=paper"
BEST = "pseudo_labels.preset=best"
COARSE = "{height: 353, layers: [features.14.conv.0, features.17], weights: [1, 1]}"
FINE = "height: 705, layers: [features.10, features.14.conv.0, features.17], weights: [1, 1.4, 1]"
FLOOR, CEILING = "floor", "ceiling"
"""Rows that need no pixels: the bands alone, and an oracle that gives each superpixel of `best` its best label."""

TABLES: dict[str, tuple[Variant, ...]] = {
    "features": (
        ("Only Imaging", (PAPER, "representation.features=imaging")),
        ("Only Semantics", (PAPER, "representation.features=semantic")),
        ("Single Enc.", (PAPER, "cam.encoder=single")),
        ("Ours", (PAPER,)),
        ("Only Semantics Single Enc.", (PAPER, "representation.features=semantic", "cam.encoder=single")),
    ),
    "refinement": (
        ("none", (PAPER, "pseudo_labels.context=false", "pseudo_labels.location=false")),
        ("context", (PAPER, "pseudo_labels.location=false")),
        ("location", (PAPER, "pseudo_labels.context=false")),
        ("context and location", (PAPER,)),
        ("context as in the paper, and location", (PAPER, "pseudo_labels.edge_scale=null")),
    ),
    "presets": (
        ("literal", ("pseudo_labels.preset=literal",)),
        ("paper", (PAPER,)),
        ("best", (BEST,)),
        (FLOOR, (BEST,)),
        (CEILING, (BEST,)),
    ),
    "saliency": (
        ("drfi", (PAPER,)),
        ("geodesic", (PAPER, "saliency.method=geodesic")),
        ("none", (PAPER, "saliency.method=none")),
    ),
    "propagation": (
        ("best", (BEST,)),
        ("SLIC instead of Felzenszwalb's regions", (BEST, "superpixels.method=slic")),
        ("the coarse pass alone", (BEST, f"embedding.passes=[{COARSE}]")),
        ("no early layers", (BEST, f"embedding.passes=[{COARSE}, {{{FINE}}}]")),
        ("no position", (BEST, "embedding.position_weight=0")),
        ("no contours", (BEST, "propagation.contour_weight=0")),
        ("no margin of the objects", (BEST, "propagation.object_margin=0")),
        ("no bands", (BEST, "pseudo_labels.location=false")),
        ("no widths", (BEST, "pseudo_labels.thin=false")),
        ("a quarter of the frames in the graph", (BEST, "propagation.graph_frames={quarter}")),
        ("given: each object class at most 2 %", (BEST, "propagation.most_object_area=0.02")),
    ),
}
"""The tables by name: the paper's table 2 and 3, the presets, what saliency is worth, and each idea of `best`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: the configured pixel file's figures, then mean and deviation over all pixel files; fractions."""

    table: str
    name: str
    precision: float
    """Mean over the classes; a class never predicted counts 0."""
    recall: float
    """Likewise."""
    miou_class: float
    miou_category: float
    coverage: float
    """Share of the counted pixels that have a label."""
    miou_class_mean: float
    miou_class_std: float
    """Deviation of the sample (n - 1)."""
    pixel_files: int
    val_miou_class: float | None = None
    """Of a network after one training on them (`train` only), on the evaluation split."""
    val_miou_category: float | None = None


def run_ablation(
    config: str,
    overrides: Sequence[str],
    tables: Sequence[str],
    out: Path,
    *,
    limit: int | None,
    pixel_files: Sequence[str],
    train: bool,
    warn: Callable[[str], None],
) -> list[Row]:
    """Score the rows of the tables, write them to `out`, and log them to MLflow.

    Parameters
    ----------
    config, overrides
        As for `load_settings`; a row's own settings win.
    tables
        Names out of `TABLES`.
    out
        The folder for `<table>.md`, `.csv` and `.png`, the features, and with `train` the runs.
    limit
        Frames of the training split that are labelled, evenly spaced; None takes all. The annotated frames serve for
        the representation in any case.
    pixel_files
        Pixel files besides the configured one; where there is none, those that ship beside it (`NAME-2`, `NAME-3`).
    train
        Whether to train once on each row's labels, too.
    warn
        Takes warnings for a person.

    Raises
    ------
    InputError
        If the training split has no labels, or as for a training.
    """
    bench = _Bench(config, overrides, out, limit, pixel_files, warn)
    rows = []
    for table in tables:
        table_rows = []
        for name, differences in TABLES[table]:
            settings = bench.settings(differences)
            row = bench.score(table, name, settings)
            if train and name not in (FLOOR, CEILING):
                row = bench.trained(row, settings)
            table_rows.append(row)
        _write(table, table_rows, out)
        rows += table_rows
    _log(rows, tables, bench.settings((BEST,)), out)
    return rows


class _Bench:
    """The frames, the pixel files and the features that the rows share."""

    def __init__(
        self,
        config: str,
        overrides: Sequence[str],
        out: Path,
        limit: int | None,
        pixel_files: Sequence[str],
        warn: Callable[[str], None],
    ) -> None:
        self._config, self._overrides, self._out, self._warn = config, list(overrides), out, warn
        settings = load_settings(config, overrides)
        self._dataset: Dataset = open_dataset(settings.dataset, settings.dataset.train)
        if not self._dataset.has_labels:
            raise InputError(
                f"dataset.train: split '{settings.dataset.train}' of {settings.dataset.name} has no labels to score "
                "pseudo labels by"
            )
        self._frame_ids = evenly_spaced(self._dataset.frame_ids, limit or settings.dataset.limit)
        sources = [settings.pixels, *(pixel_files or sibling_files(settings.pixels))]
        self._pixels = [load_pixels(source, self._dataset.taxonomy, settings.dataset.name) for source in sources]
        for source, pixels in zip(sources, self._pixels, strict=True):
            for warning in check_pixels(pixels, self._dataset, source):
                warn(warning)

    def settings(self, differences: Sequence[str]) -> Settings:
        """Return the settings of a row."""
        quarter = max(1, len(self._frame_ids) // 4)
        given = [difference.replace("{quarter}", str(quarter)) for difference in differences]
        return load_settings(self._config, [*self._overrides, *given])

    def score(self, table: str, name: str, settings: Settings) -> Row:
        """Score a row's pseudo labels for every pixel file."""
        if name == FLOOR:
            scores = [self._confusion(self._floor, name)]
        else:
            folder = self._features(settings)
            if name == CEILING:
                scores = [self._confusion(lambda frame_id: self._ceiling(folder, frame_id), name)]
            else:
                scores = [self._labelled(settings, folder, pixels, name) for pixels in self._pixels]
        mious = [confusion.miou_class() for confusion in scores]
        figures = scores[0].pseudo_label_metrics()
        return Row(
            table=table,
            name=name,
            precision=figures["pseudo/precision"],
            recall=figures["pseudo/recall"],
            miou_class=figures["pseudo/miou_class"],
            miou_category=scores[0].miou_category(),
            coverage=figures["pseudo/coverage"],
            miou_class_mean=float(np.mean(mious)),
            miou_class_std=float(np.std(mious, ddof=1)) if len(mious) > 1 else 0.0,
            pixel_files=len(self._pixels),
        )

    def trained(self, row: Row, settings: Settings) -> Row:
        """Train once on a row's labels of the configured pixel file and add the evaluation split's figures."""
        iterations = settings.iterations.model_copy(update={"rounds": 1})
        dataset = settings.dataset.model_copy(update={"limit": len(self._frame_ids)})
        settings = settings.model_copy(update={"iterations": iterations, "dataset": dataset})
        asked = settings.model_dump(mode="json") | {"pixels": self._pixels[0].digest(), "files": file_digests(settings)}
        out = self._out / "runs" / f"{slug(row.name)}-{digest_of(asked)}"
        pipeline = Pipeline(settings, out, resume=True, warn=self._warn)
        link_files(self._features(settings), out / "features")
        report = pipeline.run()
        return replace(row, val_miou_class=report["miou_class"][0], val_miou_category=report["miou_category"][0])

    def _features(self, settings: Settings) -> Path:
        """Return the folder of the features that the settings ask for, made where they are missing."""
        parts = ["superpixels", "cam", "embedding" if _propagates(settings) else "saliency"]
        asked: dict[str, Any] = {
            "method": settings.pseudo_labels.method,
            "dataset": settings.dataset.model_dump(mode="json"),
        }
        asked |= {part: getattr(settings, part).model_dump(mode="json") for part in parts}
        annotated = [frame_id for pixels in self._pixels for frame_id in pixels.frame_ids]
        frame_ids = list(dict.fromkeys([*self._frame_ids, *annotated]))
        asked |= {"frames": frame_ids, "files": file_digests(settings)}
        folder = self._out / "features" / digest_of(asked)
        extract_features(settings, frame_ids, folder)
        return folder

    def _labelled(self, settings: Settings, folder: Path, pixels: PixelFile, name: str) -> ConfusionMatrix:
        scoring = score_frames(settings, folder, self._frame_ids, pixels, self._dataset.taxonomy)

        def labels(frame_id: str) -> NDArray[np.uint8]:
            return scoring.labels(frame_id)[RegionFeatures.load_labels(folder / f"{frame_id}.npz")]

        return self._confusion(labels, name)

    def _floor(self, frame_id: str) -> NDArray[np.uint8]:
        height, width = self._dataset.labels(frame_id).shape
        return band_prior_labels(self._dataset.taxonomy, (height, width))

    def _ceiling(self, folder: Path, frame_id: str) -> NDArray[np.uint8]:
        return region_oracle(RegionFeatures.load_labels(folder / f"{frame_id}.npz"), self._dataset.labels(frame_id))

    def _confusion(self, labels: Callable[[str], NDArray[np.uint8]], name: str) -> ConfusionMatrix:
        confusion = ConfusionMatrix(self._dataset.taxonomy)
        for frame_id in tqdm(self._frame_ids, desc=name, unit="frame", disable=None):
            confusion.update(self._dataset.labels(frame_id), labels(frame_id))
        return confusion


def markdown(rows: Sequence[Row]) -> str:
    """Return rows of one table as a Markdown table, percent with one decimal."""
    trained = any(row.val_miou_class is not None for row in rows)
    header = ["", "precision", "recall", "mIoU class", "mIoU category", "coverage", "mIoU class, all pixel files"]
    header += ["val mIoU class", "val mIoU category"] if trained else []
    lines = [" | ".join(["", *header, ""]).strip(), "|---|" + "---:|" * (len(header) - 1)]
    for row in rows:
        cells = [_percent(value) for value in _figures(row)]
        cells.append(f"{_percent(row.miou_class_mean)} ± {_percent(row.miou_class_std)} ({row.pixel_files})")
        if trained:
            cells += [_percent(row.val_miou_class), _percent(row.val_miou_category)]
        lines.append(" | ".join(["", row.name, *cells, ""]).strip())
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Draw rows of one table, uint8 [H, W, 3]: class mIoU as bars, mean and deviation over the pixel files on them."""
    drawing = Figure(figsize=(8, 0.8 + 0.42 * len(rows)), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [100 * row.miou_class for row in rows], color="#7a9cc6", height=0.62)
    axes.errorbar(
        [100 * row.miou_class_mean for row in rows],
        places,
        xerr=[100 * row.miou_class_std for row in rows],
        fmt="o",
        color="#1f2d3d",
        capsize=3,
        markersize=4,
        label="mean and deviation over the pixel files",
    )
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_xlabel("class mIoU of the pseudo labels, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figures(row: Row) -> tuple[float, ...]:
    return row.precision, row.recall, row.miou_class, row.miou_category, row.coverage


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def _propagates(settings: Settings) -> bool:
    return settings.pseudo_labels.method == "propagation"


def _write(table: str, rows: Sequence[Row], out: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    for suffix, content in (("md", markdown(rows)), ("csv", text.getvalue())):
        with whole_file(out / f"{table}.{suffix}") as temporary:
            temporary.write_text(content, "utf-8")
    save_png(figure(rows), out / f"{table}.png")


def _log(rows: Sequence[Row], tables: Sequence[str], settings: Settings, out: Path) -> None:
    tracker = Tracker(tracking_uri(settings.tracking, out), settings.tracking.experiment, out)
    with tracker.pipeline(f"{settings.name}: ablation", uuid.uuid4().hex):
        tracker.describe(
            settings.model_dump(mode="json"),
            {"onepixel.dataset": settings.dataset.name, "onepixel.tables": ", ".join(tables)},
            [out / f"{table}.{suffix}" for table in tables for suffix in ("md", "csv", "png")],
        )
        for row in rows:
            with tracker.stage(f"{row.table}: {row.name}"):
                for key in ("precision", "recall", "miou_class", "miou_category", "coverage", "miou_class_mean"):
                    tracker.curve(f"pseudo/{key}", {0: getattr(row, key)})
