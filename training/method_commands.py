"""The commands about the method: what its parts are worth and cost, its labels and pixels, its saliency.

Only click is imported here; each command imports what it needs when it runs.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli_support import json_option
from serving.errors import InputError
from training.cli_support import print_report, set_option, warn
from training.report_lines import percent

if TYPE_CHECKING:
    from training.settings.learning import NetworkName


@click.command()
@click.argument("config")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice(["features", "refinement", "presets", "saliency", "propagation", "iterations"]),
    help="The paper's tables 2 and 3, the presets, saliency, the ideas of `best`; may be repeated. Or the paper's "
    "table 4 with the trainer's options, by itself: hours, and it goes on where it was stopped. [default: the first "
    "three]",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Label this many training frames, evenly spaced. [default: all]"
)
@click.option("--pixels", "pixel_files", multiple=True, metavar="FILE", help="Another pixel file to average over.")
@click.option("--train", is_flag=True, help="Train once on each row's labels, too, and score the evaluation split.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: runs/NAME-ablation]")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where `iterations` keeps the figures of each run, and looks for them. [default: results/NAME]",
)
@set_option
@json_option
def ablate(
    config: str,
    tables: tuple[str, ...],
    limit: int | None,
    pixel_files: tuple[str, ...],
    train: bool,
    out: Path | None,
    results: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what each part of the method is worth on CONFIG.

    To its pseudo labels, and each round to its network.
    """
    from training.annotations.pixels import check_pixel_files
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    check_pixel_files(settings, pixel_files)
    folder = out or Path("runs") / f"{settings.name}-ablation"
    if "iterations" in tables:
        if tables != ("iterations",) or limit or pixel_files or train:
            raise InputError("--table iterations: takes no other table, --limit, --pixels or --train beside it")
        from training.ablation import iterations

        found = iterations.run_iterations(
            config, overrides, folder, results or Path("results") / settings.name, warn=warn
        )
        print_report(iterations.as_json(found), as_json, [iterations.markdown(found), f"also in {folder}"])
        return
    from training.ablation.pseudo_labels import markdown, run_ablation

    tables = tables or ("features", "refinement", "presets")
    rows = run_ablation(config, overrides, tables, folder, limit=limit, pixel_files=pixel_files, train=train, warn=warn)
    lines = []
    for table in tables:
        lines += [table, "", markdown([row for row in rows if row.table == table])]
    report = [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]
    print_report({"rows": report}, as_json, [*lines, f"also in {folder}"])


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--frames", "folder", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the labels.")
@json_option
def label(run: Path, folder: Path, out: Path, as_json: bool) -> None:
    """Give new frames pseudo labels from the graph of RUN.

    RUN is a folder that `train` made, which has solved it.

    Writes <stem>.png (8-bit class ids, 255 unknown) for each image. Exits 1 if any failed; the others are there.
    """
    from tqdm import tqdm

    from training.pseudo_labels.new_frames import NewFrames

    frames = NewFrames(run, folder, out)
    if frames.left_out:
        warn(f"--frames {folder}: no image, so left out: {', '.join(frames.left_out)}")
    failures = []
    for result in tqdm(frames.label(), total=len(frames.paths), desc="labels", unit="frame", disable=None):
        if result.failure is not None:
            failures.append({"name": result.name, "failure": result.failure})
            tqdm.write(f"failed: {result.failure}", file=sys.stderr)
    report = {
        "frames": len(frames.paths),
        "failed": len(failures),
        "failures": failures,
        "left_out": frames.left_out,
        "out": str(out),
    }
    print_report(report, as_json, [f"{key:<16} {report[key]}" for key in ("frames", "failed", "out")])
    raise SystemExit(1 if failures else 0)


@click.command()
@click.argument("config")
@click.option("--frame", "frame_id", required=True, metavar="ID", help="A frame of the training split.")
@click.option(
    "--run",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take features and the solved graph from this folder, which `train` made, where it has them.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The HTML file to write.")
@set_option
@json_option
def inspect(config: str, frame_id: str, run: Path | None, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show how a training frame of CONFIG gets its label.

    Every step, on one page that is opened from disk.
    """
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    from training.inspection.collect import inspect_frame
    from training.inspection.page import write_page

    intermediates = inspect_frame(settings, frame_id, run, warn=warn)
    write_page(intermediates, out)
    report = {
        "page": str(out),
        "frame": frame_id,
        "superpixels": len(intermediates.features.regions.area),
        "frames": len(intermediates.scoring.frames),
        "bytes": out.stat().st_size,
    }
    print_report(report, as_json, [f"{key:<16} {value}" for key, value in report.items()])


@click.group()
def annotations() -> None:
    """The annotated pixels: what each of them is worth."""


@annotations.command()
@click.argument("config")
@click.option(
    "--run",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take features from this folder, which `train` made, where it has them.",
)
@click.option("--limit", type=click.IntRange(min=1), default=48, show_default=True, help="Frames, evenly spaced.")
@set_option
@json_option
def check(config: str, run: Path | None, limit: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say how pure and how distinct CONFIG's pixels are.

    Also which two compete, and which are better; reads no labels.
    """
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    from training.annotations import survey

    report = survey.survey_annotations(settings, run, limit)
    print_report(survey.as_json(report), as_json, survey.as_lines(report))


@click.command("pseudo-labels")
@click.argument("config", default="streets")
@click.option(
    "--preset", type=click.Choice(["literal", "paper", "best"]), default="best", show_default=True, help="The method."
)
@click.option("--frames", type=click.IntRange(min=2), default=24, show_default=True, help="Training frames measured.")
@set_option
@json_option
def bench_pseudo_labels(config: str, preset: str, frames: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure what the pseudo labels cost.

    Seconds per frame of each step, on one thread, and their ratio to the floor.

    The floor is decoding, the network's forward passes and the segmentations.
    """
    from training.configuration import load_settings

    settings = load_settings(config, [f"pseudo_labels.preset={preset}", *overrides])
    from training.benchmarks import run_benchmark

    report = run_benchmark(settings, frames)
    lines = [f"{step:<28} {1000 * seconds:9.1f} ms" for step, seconds in report["seconds_per_frame"].items()]
    lines += [
        f"{key:<28} {value:9.2f}"
        for key, value in report.items()
        if key in ("ratio_to_floor", "ratio_with_saliency", "two_workers_speedup") and value is not None
    ]
    lines += [f"{'peak memory':<28} {report['peak_memory_bytes'] / 2**20:9.0f} MiB"]
    lines += [
        f"{cost['frames']} frames by a graph of {cost['graph_frames']}, {cost['regions']} regions: "
        f"{cost['seconds']:.1f} s, {cost['memory_bytes'] / 2**20:.0f} MiB"
        for cost in report.get("graph", [])
    ]
    print_report(report, as_json, lines)


@click.command("export")
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(
        [
            "deeplab_mobilenet_v2",
            "deeplab_mobilenet_v2_skip",
            "deeplab_vgg16_largefov",
            "deeplab_vgg16_aspp",
            "deeplab_resnet101",
        ]
    ),
    help="Which; give it again for more. [default: all]",
)
@json_option
def bench_export(networks: "tuple[NetworkName, ...]", as_json: bool) -> None:
    """Measure the parity of exported files.

    Over networks, precisions and input sizes.
    """
    from training.export.table import LEARNING_RATES, as_markdown, export_table
    from training.export.table import as_json as report

    rows = export_table(networks or tuple(LEARNING_RATES))
    print_report(report(rows), as_json, as_markdown(rows))


@click.group()
def saliency() -> None:
    """Fit DRFI, the learnt saliency.

    On images and masks of salient objects.
    """


@saliency.command()
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images (jpg, png, webp).")
@click.option("--masks", required=True, type=click.Path(path_type=Path),
              help="Folder of 8-bit masks <stem>.png, one for each image: salient from 128 on.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .onnx file to write.")
@json_option
def fit(images: Path, masks: Path, out: Path, as_json: bool) -> None:
    """Fit a forest for --set saliency.forest=FILE.

    And compare it with unsupervised maps on a fifth of the images.
    """
    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: must end in .onnx")
    from training.datasets.salient import SalientFolder
    from training.features.saliency.fit import divide, fit_forest
    from training.features.saliency.writing import write_forest

    parts = divide(SalientFolder(images, masks))
    command = f"onepixel saliency fit --images {images.name} --masks {masks.name} --out {out.name}"
    model, report = fit_forest(parts, source=images.name, command=command)
    write_forest(model, out)
    report = {"forest": str(out), "bytes": out.stat().st_size, **report}
    lines = [f"{name:<18} {percent(value)}" for name, value in report["auc"].items()]
    lines = [f"area under the ROC curve, % ({report['held_out_images']} held-out images)", *lines, ""]
    lines += [f"forest    {out} ({report['bytes']} bytes, {report['trees']} trees, {report['regions']} regions)"]
    print_report(report, as_json, lines)


COMMANDS = (ablate, annotations, inspect, label, saliency)
