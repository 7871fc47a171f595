import os
import sys
import threading

import pytest

from serving import background
from serving.background import yielding

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")


def niceness_within(*, alone: bool) -> list[int]:
    """Return the niceness of a thread before, within and after, and of one that it starts within, after."""
    seen: list[int] = []
    ended = threading.Event()
    other: list[int] = []

    def stay() -> None:
        other.append(threading.get_native_id())
        started.set()
        ended.wait(5)

    started = threading.Event()

    def own() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def run() -> None:
        seen.append(own())
        with yielding(alone=alone):
            seen.append(own())
            threading.Thread(target=stay, daemon=True).start()
            assert started.wait(5)
        seen.append(own())
        seen.append(os.getpriority(os.PRIO_PROCESS, other[0]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ended.set()
    return seen


OWN = os.getpriority(os.PRIO_PROCESS, 0)
"""The tests may run at low priority themselves."""


def test_a_thread_that_does_nothing_else_stays_low() -> None:
    assert niceness_within(alone=True) == [OWN, 19, 19, 19]


def test_threads_that_stay_are_raised_again_or_never_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    if background._may_raise():
        assert niceness_within(alone=False) == [OWN, 19, OWN, OWN]
    monkeypatch.setattr(background, "_may_raise", lambda: False)
    assert niceness_within(alone=False) == [OWN, OWN, OWN, OWN]
