"""What keeps the loading of a new model from disturbing those who are answered: it waits for idle processors."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOWEST = 19


@contextmanager
def yielding(*, alone: bool) -> Iterator[None]:
    """Let the calling thread run only where nobody else wants its processor, for as long as the context lasts.

    On Linux, where each thread has a priority of its own. Raising it again takes a privilege, so the thread should be
    one that does nothing else; and threads that it starts inherit it.

    Parameters
    ----------
    alone
        Whether it starts no threads that go on afterwards. Where it does, nothing is done without the privilege, with
        which they are raised again.
    """
    if sys.platform != "linux" or not (alone or _may_raise()):
        yield
        return
    before, niceness = _threads(), _niceness()
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
    try:
        yield
    finally:
        if not alone:
            for thread in {*_threads() - before, threading.get_native_id()}:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def _niceness() -> int:
    """Return the calling thread's."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _may_raise() -> bool:
    """Tell whether this process may raise a thread's priority."""
    allowed = False

    def ask() -> None:
        nonlocal allowed
        try:
            niceness = _niceness()
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(LOWEST, niceness + 1))
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
            allowed = True
        except PermissionError:
            pass

    asking = threading.Thread(target=ask)  # which ends, whatever its priority is then
    asking.start()
    asking.join()
    return allowed
