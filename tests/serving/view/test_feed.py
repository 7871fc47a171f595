"""What a feed does with a real server: pairs in step, every frame counted, and back again when the server went away."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import InputError
from serving.frames import decode_image
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.view import feed as feeds
from serving.view.feed import Feed
from serving.view.sources import Captured, Images, Source
from tests.serving.conftest import until
from tests.serving.view.conftest import CLASS_IDS


@contextmanager
def running(source: Source, address: str, rate: float | None = None) -> Iterator[Feed]:
    feed = Feed(source, address, rate=rate)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()
    assert not any(thread.is_alive() for thread in feed._threads)


def ends(figures: dict[str, Any]) -> int:
    """Frames whose outcome is known."""
    return int(figures["segmented"] + figures["failed"] + sum(figures["dropped"].values()))


def test_a_frame_has_its_own_mask(server: Server, folder: Path) -> None:
    (folder / "apple.png").write_bytes(b"no image")
    with running(Images(folder), server.address, rate=100) as feed:
        seen, number = set(), 0
        while len(seen) < 3 or number < 20:
            pair = feed.newer(number, 20)
            assert pair is not None and pair.number > number
            number, told = pair.number, pair.to_json()
            frame, mask = (decode_image(data) for data in pair.pictures())
            class_id = CLASS_IDS[told["name"]]
            assert frame.shape == mask.shape == (48, 64, 3) and np.all(mask == class_id)
            assert int(frame.mean(axis=(0, 1)).argmax()) == class_id
            assert told["shares"] == {str(each): float(each == class_id) for each in range(3)}
            seen.add(told["name"])
        assert told["model"]["classes"][0] == {"id": 0, "name": "red", "colour": [200, 0, 0]}
        assert feed.newer(number, 0) is None or feed.newer(number, 0).number > number
        figures = feed.to_json()["figures"]
        assert figures["failed"] > 0 and figures["last_failure"].startswith("apple.png: INVALID_ARGUMENT: image: text")
        assert feed.to_json()["problem"] is None
    figures = feed.figures.to_json()
    assert figures["arrived"] - ends(figures) in (0, 1)  # one may not have left yet


def test_a_pair_is_encoded_once(server: Server, folder: Path) -> None:
    with running(Images(folder), server.address) as feed:
        pair = feed.newer(0, 20)
        assert pair is not None and pair.pictures() is pair.pictures()


def test_a_slow_server_bounds_what_is_held(gated: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "STALL", 0.2)
    server = Server(gated)
    server.start()
    with running(Images(folder), server.address, rate=500) as feed:
        until(lambda: len(feed._awaiting) == feeds.MAX_AWAITING)
        before = feed.figures.to_json()
        until(lambda: feed.figures.to_json()["arrived"] > before["arrived"] + 2 * feeds.MAX_AWAITING)
        assert len(feed._awaiting) == feeds.MAX_AWAITING and feed.figures.to_json()["segmented"] == 0
        assert feed.figures.to_json()["dropped"]["NOT_SENT"] > before["dropped"]["NOT_SENT"]
        until(lambda: feed.to_json()["problem"])
        assert feed.to_json()["problem"].startswith(f"The server at {server.address} has not answered for ")
        gated.gate.release(1000)
        until(lambda: feed.figures.to_json()["segmented"] > 10)
        assert feed.figures.to_json()["dropped"]["OVERFLOW"] > 0 and feed.to_json()["problem"] is None
    figures = feed.figures.to_json()
    assert figures["arrived"] - ends(figures) in (0, 1)
    server.stop(grace=1)


def test_it_reconnects(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RETRY", 0.05)
    monkeypatch.setattr(feeds, "PATIENCE", 0.5)
    server = Server(model)
    server.start()
    with running(Images(folder), server.address, rate=100) as feed:
        pair = feed.newer(0, 20)
        server.stop(grace=0)
        until(lambda: feed.to_json()["problem"])
        assert feed.to_json()["problem"] == f"No server answers at {server.address}; trying again every second"
        again = Server(model, EMBEDDED.model_copy(update={"address": server.address}))
        again.start()
        until(lambda: feed.to_json()["problem"] is None)
        segmented = feed.figures.to_json()["segmented"]
        until(lambda: feed.figures.to_json()["segmented"] > segmented)
        latest = feed.newer(0, 20)
        assert pair is not None and latest is not None and latest.number > pair.number
    again.stop(grace=0)


class Unsteady:
    """Gives a frame, then fails as a camera that was pulled out, and so on; `came` frames so far."""

    name, rate = "unsteady", None
    came = 0

    def frames(self) -> Generator[Captured, None, None]:
        self.came += 1
        yield Captured(f"frame {self.came}", np.zeros((24, 32, 3), np.uint8))
        raise InputError("unsteady: gives no more frames")


def test_a_source_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RETRY", 0.05)
    source = Unsteady()
    with running(source, server.address) as feed:
        until(lambda: feed.to_json()["problem"] == "unsteady: gives no more frames")
        until(lambda: source.came > 3)
        assert feed.newer(0, 20) is not None


class Endless:
    """A camera that gives frames as fast as they are read."""

    name, rate = "endless", None

    def __init__(self) -> None:
        self.read = 0
        self.closed = threading.Event()

    def frames(self) -> Generator[Captured, None, None]:
        try:
            while True:
                self.read += 1
                yield Captured(f"frame {self.read}", np.zeros((24, 32, 3), np.uint8))
        finally:
            self.closed.set()


def test_a_camera_is_read_faster_than_it_is_shown(server: Server) -> None:
    source = Endless()
    with running(source, server.address, rate=20) as feed:
        until(lambda: feed.figures.to_json()["arrived"] > 3)
        assert source.read > 10 * feed.figures.to_json()["arrived"]
    assert source.closed.is_set()


def test_nothing_is_sent_while_nobody_looks(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "WATCHED", 0.3)
    with running(Images(folder), server.address, rate=100) as feed:
        pair = feed.newer(0, 20)
        assert pair is not None
        until(lambda: time.monotonic() > feed._asked + 0.4)
        arrived = feed.figures.to_json()["arrived"]
        until(lambda: time.monotonic() > feed._asked + 0.6)
        assert feed.figures.to_json()["arrived"] == arrived
        assert feed.newer(0, 0) is None  # what came before the pause is not shown
        assert feed.newer(0, 20) is not None
        assert feed.figures.to_json()["arrived"] > arrived
