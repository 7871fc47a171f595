"""What observes answered frames: failures are told once, and the end is not held up."""

import errno
import os
import threading

from serving.errors import InputError
from serving.files import whole_file
from serving.observers import Observer
from serving.server import LAST_SECONDS, Server
from tests.serving.conftest import until


class Failing(Observer):
    """Fails at what is due now and then, in turn with success, as a registry that is away does."""

    def __init__(self):
        super().__init__("failing")
        self.turns, self.held = 0, threading.Event()

    def wants(self, seen):
        return True

    def missed(self):
        pass

    def close(self, patience):
        self.patience = patience
        super().close(patience)

    def look(self, seen):
        self.held.wait(20)

    def idle(self):
        self.turns += 1
        if self.turns % 2:
            raise InputError("the registry is away")


class Full(Observer):
    """Writes a file for each frame to a disk that is full."""

    def __init__(self, folder):
        super().__init__("full")
        self.folder, self.turns = folder, 0

    def wants(self, seen):
        return True

    def missed(self):
        pass

    def look(self, seen):
        self.turns += 1
        with whole_file(self.folder / f"{self.turns}.bin"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_once_whichever_files_it_stops(caplog, tmp_path):
    observer = Full(tmp_path)
    observer.start()
    for turn in range(1, 5):
        observer.show(object())
        until(lambda turn=turn: observer.turns == turn)
    observer.close(5)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"full: {tmp_path / '1.bin'}: cannot be written: no space is left")


def test_a_failure_that_goes_on_is_told_once(caplog):
    observer = Failing()
    observer.start()
    for _ in range(6):
        observer.held.set()
        observer.show(object())
    until(lambda: observer.turns >= 4)
    observer.close(5)
    assert [record.getMessage() for record in caplog.records] == ["failing: the registry is away"]


def test_the_end_of_the_server_is_not_held_up(model):
    observer = Failing()
    server = Server(model)
    server.observe(observer)
    server.start()
    observer.show(object())
    server.stop(0)
    assert observer.patience == LAST_SECONDS and observer._thread.is_alive()
    observer.held.set()


def test_what_is_being_looked_at_is_not_waited_for_longer_than_is_said():
    observer = Failing()
    observer.start()
    observer.show(object())
    until(observer._queue.empty)
    observer.close(0.1)
    assert observer._thread.is_alive()
    observer.held.set()
