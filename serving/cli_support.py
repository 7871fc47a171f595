"""What every command line of the project shares; imports nothing heavy."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.errors import InputError

if TYPE_CHECKING:
    from serving.credentials import Credentials

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it once; its lines are no part of a log of ours

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where a server listens, and where its clients look for it."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


class CommandGroup(click.Group):
    """A group whose commands end without a traceback: on `InputError` with its message and exit status 2, on Ctrl-C
    with 130, as a shell does.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = command is not None and any(parameter.name == "resume" for parameter in command.params)
            click.echo("stopped" + ("; the same command with --resume goes on" if resumes else ""), err=True)
            ctx.exit(130)


def stop_signal() -> threading.Event:
    """Return what SIGTERM and SIGINT set from now on; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def credential_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command that calls a server take what `credentials` needs."""
    for name, text in (
        ("--token-file", "File with the token that the server asks for."),
        ("--private-key", "PEM file of that certificate's key."),
        ("--certificate", "PEM file of a certificate of one's own, where the server asks for one."),
        ("--authorities", "PEM file of the authorities that vouch for the server; then calls are encrypted."),
    ):
        command = click.option(name, type=click.Path(path_type=Path), help=text)(command)
    return command


def credentials(
    authorities: Path | None, certificate: Path | None, private_key: Path | None, token_file: Path | None
) -> "Credentials":
    """Return what the options of `credential_options` say."""
    from serving.credentials import Credentials, read_file

    token = "" if token_file is None else read_file(token_file, secret=True).decode("utf-8", "replace").strip()
    if token_file is not None and not token:
        raise InputError(f"--token-file: {token_file} is empty; it should hold the token that the server asks for")
    return Credentials(authorities, certificate, private_key, token)
