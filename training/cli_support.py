"""What the training commands share; imports nothing heavy."""

import json
from collections.abc import Iterable
from typing import Any

import click

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as dataset.root=DIR."
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out; complete stages stay.")


def warn(message: str) -> None:
    """Tell a person of something that stops nothing."""
    click.echo(f"warning: {message}", err=True)


def print_report(report: dict[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print a command's result: one JSON object on one line, or lines for a person."""
    click.echo(json.dumps(report) if as_json else "\n".join(lines))
