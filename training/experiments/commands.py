"""The commands `compare` and `reproduce`; imports nothing heavy."""

import json
import os
from pathlib import Path

import click

from serving.cli_support import json_option
from serving.errors import InputError
from training.cli_support import print_report, resume_option, set_option, warn

uri_option = click.option("--uri", help="MLflow's URI. [default: as the run's folder says, else MLFLOW_TRACKING_URI]")


@click.command()
@click.argument("runs", metavar="RUN RUN ...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for drawings and the same frames."
)
@uri_option
@json_option
def compare(runs: tuple[str, ...], out: Path | None, uri: str | None, as_json: bool) -> None:
    """Lay runs side by side.

    Figures, IoU by class, the settings that differ, the same frames.

    RUN is a run's identifier in MLflow, or the folder of a run on this machine.
    """
    asked = [_find(run, uri) for run in runs]
    from training.experiments.compare import compare_runs

    comparison = compare_runs(asked, out)
    print_report(comparison.as_json(), as_json, comparison.as_lines())


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder. [default: runs/reproduced/RUN]")
@uri_option
@set_option
@resume_option
@json_option
def reproduce(
    run: str, out: Path | None, uri: str | None, overrides: tuple[str, ...], resume: bool, as_json: bool
) -> None:
    """Build a run again from what MLflow has of it.

    And say how far the figures agree.

    RUN is a run's identifier in MLflow, or the folder of a run on this machine.
    """
    place, run_id = _find(run, uri)
    from training.experiments.reproduce import as_lines
    from training.experiments.reproduce import reproduce as again

    report = again(place, run_id, out, overrides, resume=resume, warn=warn)
    print_report(report, as_json, as_lines(report))


def _find(run: str, uri: str | None) -> tuple[str, str]:
    """Return a run's MLflow and its identifier there; a folder knows both."""
    note = Path(run) / "mlflow.json"
    if note.is_file():
        content = json.loads(note.read_text())
        return uri or content["uri"], content["run_id"]
    if Path(run).is_dir() or "/" in run:
        raise InputError(f"RUN {run}: is no folder of a run; it has no mlflow.json")
    place = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not place:
        raise InputError(f"--uri: say where MLflow knows run {run}, here or in MLFLOW_TRACKING_URI")
    return place, run


COMMANDS = (compare, reproduce)
