"""The command `tune`, mounted by `onepixel` and `python -m serving`. Only click is imported until it runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.cli_support import json_option

if TYPE_CHECKING:
    from serving.tuning import Tuning


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--frames", "source", required=True, type=click.Path(path_type=Path), help="Folder of images as the cameras' are."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="YAML file to write the fastest to.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Of one inference. [default: one per core]")
@click.option("--frames-limit", type=click.IntRange(min=2), default=30, show_default=True, help="Images to read.")
@click.option(
    "--least-agreement",
    type=click.FloatRange(min=0, max=1),
    help="Share of pixels that tf32, fp16, bf16 and int8 must leave as they are. [default: 0.995; 0.99 for int8]",
)
@json_option
def tune(
    model: Path,
    source: Path,
    out: Path | None,
    threads: int,
    frames_limit: int,
    least_agreement: float | None,
    as_json: bool,
) -> None:
    """Measure the engines and precisions of this host for MODEL.

    MODEL is an exported ONNX file.

    Those whose masks on the frames are those of MODEL in ONNX Runtime, but for a share of the pixels, may be chosen;
    the fastest of them is written to --out as settings for `onepixel serve --settings`. An int8 file is made with the
    package `onnx`, and kept beside --out if it is chosen. Let the machine do nothing else meanwhile.
    """
    from dataclasses import asdict

    from serving import tuning as tuning_module
    from serving.model import Model

    gates = dict(tuning_module.GATES)
    if least_agreement is not None:
        gates |= dict.fromkeys(gates.keys() - {"fp32"}, least_agreement)
    frames = tuning_module.read_frames(source, frames_limit, Model.load(model).input_size)
    tuning = tuning_module.tune(model, frames, folder=out and out.parent, threads=threads, gates=gates)
    if out is not None:
        tuning_module.write_settings(tuning, out)
    if not as_json:
        for line in _as_lines(tuning, out):
            click.echo(line)
        return
    tree = asdict(tuning) | {
        "engine": tuning.engine.model_dump(mode="json"),
        "model": None if tuning.model is None else str(tuning.model),
        "out": None if out is None else str(out),
    }
    click.echo(json.dumps(tree))


def _as_lines(tuning: "Tuning", out: Path | None) -> list[str]:
    lines = [f"{'':<2}{'candidate':<22}{'p50 ms':>8}{'CPU ms':>8}{'masks alike':>13}{'at least':>10}"]
    for result in tuning.results:
        mark = "*" if result.chosen else ""
        if result.missing is not None:
            lines.append(f"{mark:<2}{result.candidate:<22}{'-':>8}  {result.missing}")
            continue
        lines.append(
            f"{mark:<2}{result.candidate:<22}{result.milliseconds:>8.1f}{result.cpu_milliseconds:>8.1f}"
            f"{result.agreement:>13.4%}{result.gate:>10.2%}{'' if result.passes else '  refused'}"
        )
    lines.append(
        f"* is chosen; the masks of {tuning.compared_frames} frames were compared, int8's ranges are from "
        f"{tuning.calibration_frames} others"
    )
    if out is not None:
        lines.append(f"written to {out}; use it with: onepixel serve --settings {out}")
    return lines
