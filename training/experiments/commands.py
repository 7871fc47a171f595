"""The commands `compare` and `reproduce`; imports nothing heavy."""

import json
from pathlib import Path

import click

from serving.cli_support import json_option
from serving.errors import InputError
from training.cli_support import print_report, resume_option, set_option, warn

uri_option = click.option("--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow's URI. [default: MLFLOW_TRACKING_URI]")


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
    known = [_run_id(run, uri) for run in runs]
    places = {place for _, place in known}
    if len(places) > 1 or None in places:
        raise InputError(f"--uri: the runs are in {len(places)} places; say which MLflow has them all")
    from training.experiments.compare import compare_runs

    comparison = compare_runs(str(known[0][1]), [run_id for run_id, _ in known], out)
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
    run_id, place = _run_id(run, uri)
    if place is None:
        raise InputError("--uri: say where MLflow is, here or in MLFLOW_TRACKING_URI")
    from training.experiments.reproduce import as_lines
    from training.experiments.reproduce import reproduce as again

    report = again(place, run_id, out, overrides, resume=resume, warn=warn)
    print_report(report, as_json, as_lines(report))


def _run_id(run: str, uri: str | None) -> tuple[str, str | None]:
    """Return a run's identifier and its MLflow; a folder knows both."""
    note = Path(run) / "mlflow.json"
    if not note.is_file():
        return run, uri
    content = json.loads(note.read_text())
    return content["run_id"], uri or content["uri"]


COMMANDS = (compare, reproduce)
