"""The command `onepixel`: the front door to training and serving.

Only click is imported here; each command imports what it needs when it runs.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from serving import commands as serving_commands
from serving.benchmarks.commands import bench_serving
from serving.cli_support import CommandGroup, json_option
from serving.errors import InputError
from training import method_commands
from training.cli_support import print_report, resume_option, set_option, warn
from training.experiments import commands as experiment_commands
from training.method_commands import bench_export, bench_pseudo_labels
from training.promotion import commands as promotion_commands
from training.report_lines import demo_lines, pipeline_lines


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
    """Run all of it on procedural streets.

    Pixels, pseudo labels, training, MLflow, ONNX, server, masks.
    """
    from training.configuration import load_settings

    settings = load_settings("streets", overrides)
    from training.demo import run_demo

    report = run_demo(settings, out, resume=resume, warn=warn)
    print_report(report, as_json, pipeline_lines(report) + demo_lines(report))


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
    """Train from CONFIG.

    A shipped configuration (streets, camvid, cityscapes) or a YAML file.
    """
    from training.annotations.pixels import check_pixel_files
    from training.configuration import load_settings

    settings = load_settings(config, overrides)  # mistakes are told before the heavy imports
    check_pixel_files(settings)
    from training.pipeline import Pipeline

    report = Pipeline(settings, out or Path("runs") / settings.name, resume=resume, warn=warn, twin=twin).run()
    if not int(os.environ.get("RANK", "0")):  # of torchrun's processes, one speaks
        print_report(report, as_json, pipeline_lines(report))


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
    """Score masks on a labelled split by Cityscapes' rules.

    Frames go the way that a server sends them.

    Masks of `cityscapes` are a submission folder (label ids), all others class ids in <frame>.png, 255 no class.
    """
    from training.configuration import load_settings

    settings = load_settings(dataset, overrides)
    from training.evaluation.evaluate import as_lines, run_evaluation

    report = run_evaluation(settings, split, **options, overrides=overrides, warn=warn)
    print_report(report, as_json, as_lines(report))


@main.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--round", "number", type=click.IntRange(min=0), help="Which round's network. [default: the last]")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The ONNX file to write.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", show_default=True)
@json_option
def export(run: Path, number: int | None, out: Path, precision: Any, as_json: bool) -> None:
    """Export a network of RUN as a verified ONNX file.

    RUN is a folder that `train` made.

    fp32 must answer as the network but for near ties, fp16 99.5 % of the pixels as fp32; int8, whose ranges come from
    training frames, may lose half a point of mean IoU. A file that does not is not written.
    """
    from training.configuration import read_settings
    from training.pipeline import Pipeline

    if not (run / "state.json").exists():
        raise InputError(f"RUN {run}: holds no run; give a folder that `onepixel train` made")
    settings = read_settings(run / "settings.yaml").model_copy(update={"pixels": str(run / "pixels.yaml")})
    pipeline = Pipeline(settings, run, resume=True, warn=warn)
    report = pipeline.export(out, number, precision)
    print_report(report, as_json, [f"{key:<16} {value}" for key, value in report.items()])


@main.command()
@click.argument("config", default="camvid")
@set_option
@json_option
def networks(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what each segmentation network costs.

    With CONFIG's classes and input size.

    CONFIG's own network has its stride and dilations, each other one those that it was published with.
    """
    from training.configuration import load_settings
    from training.datasets import taxonomy_of

    settings = load_settings(config, overrides)
    from training.segmentation.networks.cost import all_costs, as_lines

    classes, size = len(taxonomy_of(settings.dataset).classes), settings.network.input_size
    rows = all_costs(settings.network, settings.cam, classes)
    print_report({"classes": classes, "input_size": size, "networks": rows}, as_json, as_lines(rows, classes, size))


@main.group()
def bench() -> None:
    """Measure what something costs."""


bench.add_command(bench_serving)
bench.add_command(bench_pseudo_labels)
bench.add_command(bench_export)


for _command in (
    *method_commands.COMMANDS,
    *experiment_commands.COMMANDS,
    *promotion_commands.COMMANDS,
    *serving_commands.COMMANDS,
):
    main.add_command(_command)
_SERVING = {command.name for command in serving_commands.COMMANDS}


if __name__ == "__main__":
    main()
