import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.frames import encode_png

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


def until(condition: Callable[[], object], patience: float = 30.0) -> None:
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)
