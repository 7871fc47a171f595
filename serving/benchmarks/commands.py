"""The command `onepixel bench serving`; imports nothing heavy until it runs."""

import json
from pathlib import Path
from typing import Any

import click

from serving.cli_support import json_option

SUITES = ("latency", "overload", "swap", "soak", "fuzz", "all")


@click.command("serving")
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    help="[default: latency and a short overload, 8 minutes; `all` takes 25]",
)
@click.option("--model", type=click.Path(path_type=Path), help="The exported ONNX file. [default: the shipped one]")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME[=PYTHON]",
    help="Measure another server beside ours, from the environment of that python: grpc, grpc-aio, mlserver, litserve, "
    "bentoml, kserve, ray or torchserve; may be repeated. Without --suite, nothing else.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for table, plot and raw figures.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiplies durations and counts; the bars are meant for 1.",
)
@json_option
def bench_serving(
    suite: str | None, model: Path | None, peers: tuple[str, ...], out: Path | None, scale: float, as_json: bool
) -> None:
    """Measure the server against a bare loop, and other servers.

    The bare loop of decoding, engine and encoding runs in the same run.

    Server and bare loop take turns on one core, with one thread of the engine; the load generator has another core.
    """
    from serving.benchmarks.report import table, write_report
    from serving.benchmarks.run import run_suites

    def warn(message: str) -> None:
        click.echo(f"warning: {message}", err=True)

    findings = run_suites(suite, model, peers, scale, warn)
    for note in write_report(findings, out) if out else []:
        warn(note)
    figures: dict[str, Any] = findings.figures
    click.echo(json.dumps(figures) if as_json else table(figures))
