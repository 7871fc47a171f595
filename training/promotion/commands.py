"""The commands `register`, `gates`, `promote`, `rollback`, `history` and `retrain`; imports nothing heavy.

Exit status 3 says that a gate, or another promotion that came first, stands in the way.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli_support import json_option
from serving.errors import InputError
from training.cli_support import print_report, set_option, warn

if TYPE_CHECKING:
    from training.promotion.ledger import Entry
    from training.promotion.promotion import Promotion

REFUSED = 3
"""Exit status of what a gate or an earlier promotion refused."""

uri_option = click.option("--uri", envvar="MLFLOW_TRACKING_URI", help="MLflow's URI. [default: MLFLOW_TRACKING_URI]")
why_option = click.option("--why", required=True, help="The reason, for the history.")


@click.command()
@click.argument("source", metavar="MODEL.onnx|RUN", type=click.Path(path_type=Path, exists=True))
@click.option("--name", required=True, help="The registered model.")
@uri_option
@json_option
def register(source: Path, name: str, uri: str | None, as_json: bool) -> None:
    """Make an exported file a version, and the candidate.

    Or the last model of a run's folder.

    With a run's folder the version holds what a retraining starts from, too, and goes where the run is tracked, unless
    --uri says another place.
    """
    note = source / "mlflow.json"
    promotion = _open(uri or (json.loads(note.read_text())["uri"] if note.is_file() else None), name)
    from training.promotion.registration import register_file, register_run

    version = (register_run if source.is_dir() else register_file)(promotion.registry, source)
    if not promotion.registry.knows_run_of(version.version):
        warn(
            f"MLflow at {promotion.registry.uri} knows no run of this file: the gate `provenance` will refuse it. "
            "Train with MLFLOW_TRACKING_URI set to it, or promote it --without-gates"
        )
    report = {"name": name, "version": version.version, "digest": version.digest}
    print_report(report, as_json, [f"{name} version {version.version} is the candidate (sha256 {version.digest})"])


@click.command()
@click.argument("config")
@click.option("--candidate", required=True, help="The version to judge.")
@click.option("--name", help="The registered model. [default: CONFIG's name]")
@uri_option
@set_option
@json_option
def gates(
    config: str, candidate: str, name: str | None, uri: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Judge a version against the champion, and record it.

    On CONFIG's gate frames.

    Exits 0 if it passed, 3 if a gate refused it.
    """
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    promotion = _open(uri or settings.tracking.uri, name or settings.name)
    report = promotion.gate(candidate, settings)
    print_report(report.as_json(), as_json, report.as_lines())
    raise SystemExit(0 if report.passed else REFUSED)


@click.command()
@click.argument("name")
@click.argument("version")
@why_option
@click.option("--without-gates", is_flag=True, help="Promote whatever the gates say; the history tells it.")
@uri_option
@json_option
def promote(name: str, version: str, why: str, without_gates: bool, uri: str | None, as_json: bool) -> None:
    """Make VERSION of NAME the champion, if its gates passed.

    Against the present champion.

    Exits 3 if they did not, or another was promoted first.
    """
    promotion = _open(uri, name)
    _change(promotion, lambda: promotion.promote(version, why=why, without_gates=without_gates), name, as_json)


@click.command()
@click.argument("name")
@why_option
@click.option("--to", help="A version that was champion once. [default: the one before]")
@uri_option
@json_option
def rollback(name: str, why: str, to: str | None, uri: str | None, as_json: bool) -> None:
    """Make the champion before the present one champion again."""
    promotion = _open(uri, name)
    _change(promotion, lambda: promotion.rollback(why=why, to=to), name, as_json)


@click.command()
@click.argument("name")
@uri_option
@json_option
def history(name: str, uri: str | None, as_json: bool) -> None:
    """Tell who was champion of NAME, since when, by whom and why."""
    report = _open(uri, name).history()
    print_report(report, as_json, _history_lines(report))


@click.command()
@click.argument("config")
@click.option("--frames", required=True, type=click.Path(path_type=Path), help="Folder of new, unlabelled images.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The job's folder. [default: runs/retrain/NAME-CHAMPION]",
)
@click.option("--dry-run", is_flag=True, help="Stop before the promotion.")
@uri_option
@set_option
@json_option
def retrain(
    config: str,
    frames: Path,
    out: Path | None,
    dry_run: bool,
    uri: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Improve the champion from new frames without labels.

    What comes out is promoted if the gates allow.

    Exits 0 if it was promoted (with --dry-run, if it may be), 3 if a gate or an earlier promotion refused it, 1 if the
    job failed; started again after a kill it goes on.
    """
    from training.configuration import load_settings

    settings = load_settings(config, overrides)
    uri = _known(uri or settings.tracking.uri)
    from training.promotion.retraining import as_lines
    from training.promotion.retraining import retrain as run

    settings = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"uri": uri})})
    report = run(settings, uri, frames, out, dry_run=dry_run, warn=warn)
    print_report(report, as_json, as_lines(report))
    raise SystemExit(REFUSED if report["refused"] else 0)


def _known(uri: str | None) -> str:
    if not uri:
        raise InputError("--uri: say where MLflow is, here or in MLFLOW_TRACKING_URI")
    return uri


def _open(uri: str | None, name: str) -> "Promotion":
    uri = _known(uri)
    from training.promotion.promotion import Promotion

    return Promotion(uri, name)


def _change(promotion: "Promotion", change: Callable[[], "Entry"], name: str, as_json: bool) -> None:
    from training.promotion.ledger import Superseded
    from training.promotion.promotion import Refused

    head = promotion.ledger.head()
    try:
        entry = change()
    except (Refused, Superseded) as error:
        click.echo(f"refused: {error}", err=True)
        raise SystemExit(REFUSED) from error
    before = f", in place of {entry.previous}" if entry.previous else ""
    if entry == head:
        before = " already: nothing is changed, and the reason is not kept"
    report = {"name": name, "version": entry.version, "previous": entry.previous or None, "entry": entry.number}
    print_report(report, as_json, [f"version {entry.version} of {name} is champion{before}"])


def _history_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for entry in report["entries"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["at"]))
        what = f"{entry['action']} {entry['version']}" + (f" for {entry['previous']}" if entry["previous"] else "")
        late = "" if entry["valid"] else "  (too late, without effect)"
        lines.append(f"{when}  {what:<20} {entry['by']}: {entry['why']}{late}")
    gates_said = [
        f"version {one['version']:>3}  gates {one['gates']:<7} {one['digest'][:12]}" for one in report["versions"]
    ]
    return [*lines, *gates_said, f"champion {report['champion'] or 'none'}, candidate {report['candidate'] or 'none'}"]


COMMANDS = (register, gates, promote, rollback, history, retrain)
