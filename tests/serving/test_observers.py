"""What observes answered frames: failures are told once, and the end is not held up."""

import threading

from serving.errors import InputError
from serving.observers import Observer
from tests.serving.view.conftest import until


class Failing(Observer):
    """Fails at what is due now and then, in turn with success, as a registry that is away does."""

    def __init__(self):
        super().__init__("failing")
        self.turns, self.held = 0, threading.Event()

    def wants(self, seen):
        return True

    def missed(self):
        pass

    def look(self, seen):
        self.held.wait(20)

    def idle(self):
        self.turns += 1
        if self.turns % 2:
            raise InputError("the registry is away")


def test_a_failure_that_goes_on_is_told_once(caplog):
    observer = Failing()
    observer.start()
    for _ in range(6):
        observer.held.set()
        observer.show(object())
    until(lambda: observer.turns >= 4)
    observer.close(5)
    assert [record.getMessage() for record in caplog.records] == ["failing: the registry is away"]


def test_what_is_being_looked_at_is_not_waited_for_longer_than_is_said():
    observer = Failing()
    observer.start()
    observer.show(object())
    until(observer._queue.empty)
    observer.close(0.1)
    assert observer._thread.is_alive()
    observer.held.set()
