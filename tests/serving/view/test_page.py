"""The page in headless Chromium: what is drawn is what the server answered, and each mask lies beside its own frame."""

from pathlib import Path

import pytest

from serving.view.feed import Feed
from serving.view.sources import Images
from serving.view.web import ViewServer
from tests.browser import EXECUTABLE, Page
from tests.serving.view.conftest import COLOURS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXECUTABLE, reason="no Chromium is installed: apt-get install chromium"),
]

PICTURES = """["frame", "mask"].map((id) => {
  const canvas = document.getElementById(id);
  return [...canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data].slice(0, 3);
}).concat([document.getElementById("frame-name").textContent])"""
WHOLE = """[...document.querySelectorAll("#classes .row")].flatMap((row) =>
  row.querySelector(".value").textContent === "100.0 %" ? row.querySelector(".name").textContent : [])"""
KIND = "document.querySelector('#status').dataset.kind"


def test_a_person_looks_at_the_page(view: ViewServer, tmp_path: Path) -> None:
    with Page(view.url, tmp_path / "browser") as page:
        page.wait_for(f"{KIND} === 'live'")
        seen = set()
        while len(seen) < 3:
            frame, mask, caption, whole = page.evaluate(f"{PICTURES}.concat({WHOLE})")
            name = caption.removesuffix(".png · 64 × 48")
            assert frame == pytest.approx(COLOURS[name], abs=3)  # a JPEG
            assert mask == [200 * channel // 255 for channel in COLOURS[name]]  # the tiny model's palette
            assert whole == name  # the legend is of the picture
            seen.add(name)
        assert page.text("#model").startswith("tiny version 1 · sha256 ")
        assert page.evaluate("[...document.querySelectorAll('#classes .name')].map((each) => each.textContent)") == [
            "red",
            "green",
            "blue",
        ]

        page.press("p")
        page.wait_for(f"{KIND} === 'paused'")
        frame, mask, caption = page.evaluate(PICTURES)
        name = caption.split(".")[0]
        assert page.text(f"#classes .row:nth-child({['red', 'green', 'blue'].index(name) + 1}) .value") == "100.0 %"
        page.point(*page.middle("#mask"))
        assert page.text("#pointed") == name
        count = page.text("#count-segmented")
        page.wait_for(f"document.querySelector('#count-segmented').textContent !== '{count}'")
        assert page.evaluate(PICTURES) == [frame, mask, caption]
        assert float(page.text("#rate-in")) > 0 and float(page.text("#time-round_trip .value")) > 0

        page.press("2")
        assert page.evaluate(PICTURES)[1] == pytest.approx(
            [0.4 * before + 0.6 * after for before, after in zip(frame, mask, strict=True)], abs=2
        )
        page.press("1")
        page.click(*page.middle("#classes .row:not(.pointed)"))
        assert page.evaluate(PICTURES)[1] == pytest.approx(
            [0.88 * before + 0.12 * after for before, after in zip(frame, mask, strict=True)], abs=3
        )
        page.press("Escape")
        assert page.evaluate(PICTURES)[1] == mask
        page.point(*page.middle("#frame"))
        page.press("p")
        page.wait_for(f"{KIND} === 'live'")
        page.wait_for(f"document.querySelector('#frame-name').textContent !== '{caption}'")
        page.press("p")
        page.wait_for(f"{KIND} === 'paused'")
        assert page.text("#pointed") == page.text("#frame-name").split(".")[0]  # the pointer stayed where it was
        assert page.console == []
        assert all(url.startswith((view.url, "data:")) for url in page.requests)


def test_it_says_what_it_waits_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.view.feed.PATIENCE", 0.2)
    feed = Feed(Images(folder), "127.0.0.1:1")
    view = ViewServer(feed)
    view.start()
    with Page(view.url, tmp_path / "browser") as page:
        page.wait_for("document.querySelector('#status').textContent === 'Waiting for the first mask'")
        feed.start()
        page.wait_for(f"{KIND} === 'problem'")
        assert page.text("#status") == "No server answers at 127.0.0.1:1; trying again every second"
        view.stop()
        feed.stop()
        assert page.console == []
