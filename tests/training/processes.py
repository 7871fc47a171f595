"""`onepixel` in a process of its own that can be killed, without the seconds that its imports take each time."""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from training.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["training.pipeline"])


def start_onepixel(arguments: list[str], log: Path) -> ForkServerProcess:
    """Start the command in a process that a server, which has imported the pipeline once, forks off."""
    process = _CONTEXT.Process(target=_run, args=(arguments, log))
    process.start()
    return process


def _run(arguments: list[str], log: Path) -> None:
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    main(arguments)
