"""The process that sends, on a core of its own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

from serving.benchmarks import senders
from serving.benchmarks.load import Load, Run

Result = TypeVar("Result")


class Generator:
    """The process that sends; a context manager that ends it.

    Parameters
    ----------
    core
        Where it runs.
    """

    def __init__(self, core: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._pool = ProcessPoolExecutor(1, context, senders.start, (core, self._stop))

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def start(self, *loads: Load) -> Future[list[Run]]:
        """Send loads at the same time, and return at once."""
        self._stop.clear()
        return self._pool.submit(senders.send, loads)

    def stop(self) -> None:
        """End what is being sent; what is under way is still waited for."""
        self._stop.set()

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in the process."""
        return self._pool.submit(function, *arguments).result()

    def send(self, load: Load) -> Run:
        """Send one load to its end."""
        (run,) = self.start(load).result()
        return run
