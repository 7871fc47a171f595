"""Processes that can be killed, without the seconds that their imports take each time."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["training.pipeline"])


def start(function: Callable[..., Any], *arguments: Any, log: Path) -> ForkServerProcess:
    """Call a function in a process that a server, which has imported the pipeline once, forks off."""
    process = _CONTEXT.Process(target=_run, args=(function, arguments, log))
    process.start()
    return process


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], log: Path) -> None:
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    function(*arguments)
