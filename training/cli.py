"""The command `onepixel`: the front door to training and serving.

Only click is imported here; each command imports what it needs when it runs.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from serving import commands as serving_commands
from serving.benchmarks.commands import bench_serving
from serving.cli_support import CommandGroup, json_option
from serving.errors import InputError
from training.report_lines import demo_lines, percent, pipeline_lines

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as dataset.root=DIR."
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out; complete stages stay.")


class OnepixelGroup(CommandGroup):
    """The group whose training commands say which extra is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = "serving,cpu" if ctx.invoked_subcommand in _SERVING else "training,cpu"
            click.echo(
                f"error: onepixel {ctx.invoked_subcommand} needs the module '{error.name}': "
                f"pip install 'onepixel[{extra}]' (with a GPU: gpu for cpu)",
                err=True,
            )
            ctx.exit(2)


@click.group(cls=OnepixelGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("onepixel"), prog_name="onepixel")
def main() -> None:
    """Semantic segmentation of driving scenes from one annotated pixel per class."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="runs/demo", show_default=True)
@set_option
@resume_option
@json_option
def demo(out: Path, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Run all of it on procedural streets: pixels, pseudo labels, training, MLflow, ONNX, server, masks."""
    from training.configuration import load_settings

    settings = load_settings("streets", overrides)
    from training.demo import run_demo

    report = run_demo(settings, out, resume=resume, warn=_warn)
    _print(report, as_json, pipeline_lines(report) + demo_lines(report))


@main.command()
@click.argument("config")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the run. [default: runs/NAME]"
)
@set_option
@click.option("--twin", is_flag=True, help="Train the fully supervised twin, too: the upper bound.")
@resume_option
@json_option
def train(config: str, out: Path | None, twin: bool, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Train from CONFIG: a shipped configuration (streets, camvid, cityscapes) or a YAML file."""
    from training.annotations.pixels import check_pixel_files
    from training.configuration import load_settings

    settings = load_settings(config, overrides)  # mistakes are told before the heavy imports
    check_pixel_files(settings)
    from training.pipeline import Pipeline

    report = Pipeline(settings, out or Path("runs") / settings.name, resume=resume, warn=_warn, twin=twin).run()
    if not int(os.environ.get("RANK", "0")):  # of torchrun's processes, one speaks
        _print(report, as_json, pipeline_lines(report))


@main.command()
@click.option("--model", type=click.Path(path_type=Path), help="Score an exported ONNX file,")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="or the network.safetensors of a run's round,")
@click.option("--predictions", type=click.Path(path_type=Path), help="or a folder of masks,")
@click.option("--server", metavar="HOST:PORT", help="or a server: exactly one of the four.")
@click.option("--dataset", required=True, help="A shipped configuration's name, or a YAML file: its data set is read.")
@click.option("--split", default="val", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for masks, confusion and report.")
@set_option
@json_option
def evaluate(dataset: str, split: str, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Score masks on a labelled split by Cityscapes' rules; frames go the way that a server sends them.

    Masks of `cityscapes` are a submission folder (label ids), all others class ids in <frame>.png, 255 no class.
    """
    from training.configuration import load_settings

    settings = load_settings(dataset, overrides)
    from training.evaluation.evaluate import as_lines, run_evaluation

    report = run_evaluation(settings, split, **options, overrides=overrides, warn=_warn)
    _print(report, as_json, as_lines(report))


@main.command()
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
    """Say what each part of the method is worth to CONFIG's pseudo labels, and each round to its network."""
    from training.annotations.pixels import check_pixel_files
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    check_pixel_files(settings, pixel_files)
    folder = out or Path("runs") / f"{settings.name}-ablation"
    if "iterations" in tables:
        if tables != ("iterations",) or limit or pixel_files or train:
            raise InputError("--table iterations: takes no other table, --limit, --pixels or --train beside it")
        from training import iterations

        found = iterations.run_iterations(
            config, overrides, folder, results or Path("results") / settings.name, warn=_warn
        )
        _print(iterations.as_json(found), as_json, [iterations.markdown(found), f"also in {folder}"])
        return
    from training.ablation import markdown, run_ablation

    tables = tables or ("features", "refinement", "presets")
    rows = run_ablation(
        config, overrides, tables, folder, limit=limit, pixel_files=pixel_files, train=train, warn=_warn
    )
    lines = []
    for table in tables:
        lines += [table, "", markdown([row for row in rows if row.table == table])]
    report = [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]
    _print({"rows": report}, as_json, [*lines, f"also in {folder}"])


@main.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--round", "number", type=click.IntRange(min=0), help="Which round's network. [default: the last]")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The ONNX file to write.")
@json_option
def export(run: Path, number: int | None, out: Path, as_json: bool) -> None:
    """Export a network of RUN, a folder that `train` made, as a verified ONNX file."""
    from training.configuration import read_settings
    from training.pipeline import Pipeline

    if not (run / "state.json").exists():
        raise InputError(f"RUN {run}: holds no run; give a folder that `onepixel train` made")
    settings = read_settings(run / "settings.yaml").model_copy(update={"pixels": str(run / "pixels.yaml")})
    pipeline = Pipeline(settings, run, resume=True, warn=_warn)
    report = pipeline.export(out, number)
    _print(report, as_json, [f"{key:<16} {value}" for key, value in report.items()])


@main.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--frames", "folder", required=True, type=click.Path(path_type=Path), help="Folder of images.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the labels.")
@json_option
def label(run: Path, folder: Path, out: Path, as_json: bool) -> None:
    """Give new frames pseudo labels from the graph that RUN, a folder that `train` made, has solved.

    Writes <stem>.png (8-bit class ids, 255 unknown) for each image. Exits 1 if any failed; the others are there.
    """
    from tqdm import tqdm

    from training.pseudo_labels.new_frames import NewFrames

    frames = NewFrames(run, folder, out)
    if frames.left_out:
        _warn(f"--frames {folder}: no image, so left out: {', '.join(frames.left_out)}")
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
    _print(report, as_json, [f"{key:<16} {report[key]}" for key in ("frames", "failed", "out")])
    raise SystemExit(1 if failures else 0)


@main.command()
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
    """Show on one page, opened from disk, every step from a training frame of CONFIG to its pseudo label."""
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    from training.inspection.collect import inspect_frame
    from training.inspection.page import write_page

    intermediates = inspect_frame(settings, frame_id, run, warn=_warn)
    write_page(intermediates, out)
    report = {
        "page": str(out),
        "frame": frame_id,
        "superpixels": len(intermediates.features.regions.area),
        "frames": len(intermediates.scoring.frames),
        "bytes": out.stat().st_size,
    }
    _print(report, as_json, [f"{key:<16} {value}" for key, value in report.items()])


@main.command()
@click.argument("config", default="camvid")
@set_option
@json_option
def networks(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what each segmentation network costs with CONFIG's classes and input size.

    CONFIG's own network has its stride and dilations, each other one those that it was published with.
    """
    from training.configuration import load_settings
    from training.datasets import taxonomy_of

    settings = load_settings(config, overrides)
    from training.segmentation.networks.cost import all_costs, as_lines

    classes, size = len(taxonomy_of(settings.dataset).classes), settings.network.input_size
    rows = all_costs(settings.network, settings.cam, classes)
    _print({"classes": classes, "input_size": size, "networks": rows}, as_json, as_lines(rows, classes, size))


@main.group()
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
    """Say how pure and how distinct CONFIG's pixels are, which two compete, and which are better; reads no labels."""
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    from training.annotations import survey

    report = survey.survey_annotations(settings, run, limit)
    _print(survey.as_json(report), as_json, survey.as_lines(report))


@main.group()
def bench() -> None:
    """Measure what something costs."""


bench.add_command(bench_serving)


@bench.command("pseudo-labels")
@click.argument("config", default="streets")
@click.option(
    "--preset", type=click.Choice(["literal", "paper", "best"]), default="best", show_default=True, help="The method."
)
@click.option("--frames", type=click.IntRange(min=2), default=24, show_default=True, help="Training frames measured.")
@set_option
@json_option
def bench_pseudo_labels(config: str, preset: str, frames: int, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure the seconds per frame of each step of the pseudo labels, on one thread, and their ratio to the floor.

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
    _print(report, as_json, lines)


@main.group()
def saliency() -> None:
    """DRFI, the learnt saliency: fit it on images and masks of salient objects."""


@saliency.command()
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images (jpg, png, webp).")
@click.option("--masks", required=True, type=click.Path(path_type=Path),
              help="Folder of 8-bit masks <stem>.png, one for each image: salient from 128 on.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .onnx file to write.")
@json_option
def fit(images: Path, masks: Path, out: Path, as_json: bool) -> None:
    """Fit a forest for --set saliency.forest=FILE, and compare it with unsupervised maps on a fifth of the images."""
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
    _print(report, as_json, lines)


for _command in serving_commands.COMMANDS:
    main.add_command(_command)
_SERVING = {command.name for command in serving_commands.COMMANDS}


def _warn(message: str) -> None:
    click.echo(f"warning: {message}", err=True)


def _print(report: dict[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    click.echo(json.dumps(report) if as_json else "\n".join(lines))


if __name__ == "__main__":
    main()
