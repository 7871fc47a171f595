"""What every command line of the project shares; imports nothing heavy."""

from typing import Any

import click

from serving.errors import InputError

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


class CommandGroup(click.Group):
    """A group whose commands end on `InputError` with its message and exit status 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
