"""`python -m serving`: the server's commands, where only `serving` is installed."""

import click

from serving.benchmarks.commands import bench_serving
from serving.cli_support import CommandGroup
from serving.commands import COMMANDS


@click.group(cls=CommandGroup)
def main() -> None:
    """Serve a segmentation model over gRPC, and use it."""


for command in COMMANDS:
    main.add_command(command)


@main.group()
def bench() -> None:
    """Measure what something costs."""


bench.add_command(bench_serving)

if __name__ == "__main__":
    main(prog_name="python -m serving")
