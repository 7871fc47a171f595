import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.browser import EXECUTABLE, Page
from tests.training.inspection.frames import FEATURES, SUPERPIXELS, TRUTH, make_intermediates
from tests.training.inspection.test_packing import unpack
from training.inspection.page import arrays, render_page, write_page
from training.pseudo_labels.scoring import Scored

ARRAY = re.compile(r'<script type="text/plain" id="array-(\w+)" data-type="(\w+)">([^<]*)</script>')


@pytest.fixture(scope="module", params=["paper", "best"])
def shown(request):
    """The intermediates by either method."""
    return make_intermediates(request.param)


@pytest.fixture(scope="module")
def page(shown):
    return render_page(shown)


class FramePage(Page):
    def on_frame(self, x, y):
        """Where a pixel of the frame lies in the window."""
        self.settle()
        left, top, wide, high, width, height = self.evaluate(
            "(() => { const box = document.querySelector('#canvas').getBoundingClientRect();"
            " const meta = JSON.parse(document.querySelector('#meta').textContent);"
            " return [box.x, box.y, box.width, box.height, meta.width, meta.height]; })()"
        )
        scale = min(wide / width, high / height)
        left, top = left + (wide - width * scale) / 2, top + (high - height * scale) / 2
        return left + (x + 0.5) * scale, top + (y + 0.5) * scale


def described(page):
    return json.loads(re.search(r'<script type="application/json" id="meta">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_is_one_file_and_asks_for_nothing(page):
    assert not re.search(r"https?:", page) and "//" not in re.sub(r"//.*|data:[^\"]*", "", page.split("array-")[0])
    sources = re.findall(r"(?:src|href)=\"([^\"]{0,24})", page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert "default-src 'none'" in page and "@import" not in page and "{{" not in page


def test_a_name_cannot_end_the_element_it_stands_in(page):
    meta = described(page)
    assert [entry["name"] for entry in meta["classes"]] == ["road", "wall", "</script>"]
    assert meta["annotated"] == [
        {"class": 0, "x": 0, "y": 1},
        {"class": 1, "x": 1, "y": 4},
        {"class": 2, "x": 5, "y": 5},
    ]
    assert page.count("</script>") == page.count("<script")


def test_there_are_thresholds_where_something_can_miss_them(shown, page):
    thresholds = [entry["threshold"] for entry in described(page)["classes"]]
    assert thresholds == ([-1, -1, 2] if shown.method == "similarity" else [None] * 3)


def test_the_arrays_in_the_page_are_those_that_went_in(shown, page):
    held = {name: unpack(text, dtype) for name, dtype, text in ARRAY.findall(page)}
    expected = arrays(shown)
    assert held.keys() == expected.keys() and held.keys() > shown.similarities.keys()
    for name, array in expected.items():
        assert np.array_equal(held[name], array.ravel()), name
    assert np.array_equal(held["superpixels"].reshape(6, 6), SUPERPIXELS)
    assert np.array_equal(held["truth"].reshape(6, 6), TRUTH)
    assert np.array_equal(held["after"].reshape(4, 3), shown.scored.after)
    assert np.array_equal(held["label"], shown.scoring.labels("frame"))
    assert ("embedding" in held) == (shown.method == "propagation")
    shares = held["responses"].reshape(4, 4) / 255 * held["mostResponse"]
    assert shares == pytest.approx(FEATURES.semantic, abs=1 / 510)
    # Each class counts its superpixels once before and once after; road may stand everywhere here.
    assert held["histograms"].reshape(2, 3, -1).sum(axis=2).tolist() == [[4, 4, 4], [4, 4, 4]]


def test_a_far_score_does_not_stretch_a_histogram():
    found = make_intermediates("best")
    scores = np.tile(np.linspace(0, 1, 4096, dtype=np.float32)[:, None], 3)
    many = np.vstack([scores, np.full((1, 3), 1000, np.float32)])
    scored = {"frame": found.scored, "many": Scored(many, many, np.ones(many.shape, bool))}
    content = arrays(replace(found, scoring=replace(found.scoring, frames=scored)))
    # Of 4,101 scores the ends hold the four lowest and the four highest.
    assert content["histogramRange"][0] == pytest.approx([0, 1], abs=0.005)
    assert content["histograms"][0, 0].sum() == 4101


def test_without_a_truth_the_page_has_none():
    assert "truth" not in arrays(make_intermediates("paper", truth=None))


@pytest.mark.slow
@pytest.mark.skipif(not EXECUTABLE, reason="no Chromium is installed: apt-get install chromium")
def test_a_person_looks_at_the_page(tmp_path):
    intermediates = make_intermediates("paper", "pseudo_labels.object_threshold=1.5")
    path = tmp_path / "page.html"
    write_page(intermediates, path)
    with FramePage(path.as_uri(), tmp_path / "browser") as page:
        page.click(*page.on_frame(1, 4))
        assert page.text("#superpixel-name") == "Superpixel 2"
        assert page.text("#superpixel-facts") == "labelwalltruthwall 100\u202f%band4 of 4centrex 1, y 4area9 pixels"
        scores = intermediates.scored.after
        assert page.text("#scores .row:nth-child(2) .value:last-child") == f"{scores[2, 1]:.2f}".replace("-", "−")
        page.point(*page.on_frame(4, 1))
        cells = [float(page.text(f"#similarities .cell:nth-child({number}) .value")) for number in range(1, 6)]
        # The context is sharpened: exp(-(1 - 0.5) / 0.1) = 0.0067.
        assert cells == pytest.approx([0.25, 0, 1, 0.5, 0.0067], abs=0.005)
        assert page.text("#readout").startswith("x, y 4, 1superpixel 1")
        page.press("7")
        assert page.text("#explanation") == "road: score after refinement"
        page.press("ArrowDown")
        assert page.text("#explanation") == "wall: score after refinement"
        page.press("8")
        page.press("8")
        assert page.text("#explanation") == "Similarity to superpixel 2: eq (1) of the colours C"
        page.press("/")
        for letter in "class 3":
            page.press(letter)
        assert page.text("#responses") == "class 30.0\u202f%"
        page.click(*page.middle("#responses .row"))
        assert page.text("#explanation") == "class 3: share of the class in the network's responses"
        assert page.console == []
        assert all(url.startswith(("file:", "data:")) for url in page.requests)


@pytest.mark.slow
@pytest.mark.skipif(not EXECUTABLE, reason="no Chromium is installed: apt-get install chromium")
def test_a_person_looks_at_labels_that_are_spread(tmp_path):
    path = tmp_path / "page.html"
    write_page(make_intermediates("best"), path)
    with FramePage(path.as_uri(), tmp_path / "browser") as page:
        page.click(*page.on_frame(1, 4))
        assert page.text("#superpixel-facts").startswith("label</script>truthwall 100\u202f%")
        assert page.text("#scores .row:nth-child(3) .value:last-child") == "1.10"
        assert page.text("#scores-key") == "before less an object's margin threshold"
        assert page.evaluate("document.querySelector('#threshold-key').hidden")
        page.point(*page.on_frame(4, 1))
        assert page.text("#similarities .cell:nth-child(1)") == "embedding0.60"
        page.press("5")
        assert page.text("#explanation") == "road: similarity of the embedding to that of the class's annotated region"
        page.press("8")
        assert page.text("#explanation") == "Similarity to superpixel 2: cosine of the embeddings"
        page.press("8")
        assert (
            page.text("#explanation") == "Similarity to superpixel 2: eq (1) of the class responses H; not in the graph"
        )
        assert page.console == []
