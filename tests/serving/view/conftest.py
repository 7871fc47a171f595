from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.frames import encode_png
from serving.server import Server
from serving.view.feed import Feed
from serving.view.sources import Images
from serving.view.web import ViewServer

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
CLASS_IDS = {"blue.png": 2, "green.png": 1, "red.png": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of one colour each, named after it; the tiny model's class of each is the colour's channel."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(encode_png(np.full((48, 64, 3), colour, np.uint8)))
    return folder


@pytest.fixture
def view(server: Server, folder: Path) -> Iterator[ViewServer]:
    feed = Feed(Images(folder), server.address, rate=20)
    view = ViewServer(feed)
    feed.start()
    view.start()
    yield view
    view.stop()
    feed.stop()
