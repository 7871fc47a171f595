"""What annotated pixels are worth, on frames whose regions are drawn by hand."""

from dataclasses import replace

import numpy as np
import pytest

from training.annotations.check import INTERCHANGEABLE, TIE, check_annotations
from training.annotations.pixels import Pixel, PixelFile
from training.configuration import load_settings
from training.features.embedding import EmbeddedRegions
from training.taxonomy import ClassInfo, Taxonomy

SETTINGS = load_settings(
    "streets",
    [
        "embedding.passes=[{height: 33, layers: [a], weights: [1]}]",  # a cell is 2.9 pixels wide in 6 rows
        "propagation.neighbours=6",
        "propagation.contour_weight=0",
        "propagation.object_margin=0",
        "propagation.tolerance=0.00001",
    ],
)
A, B, C = np.eye(3)


def taxonomy(names, kind="scene"):
    infos = [ClassInfo(name=name, colour=(0, 0, 0), category=name, kind=kind, bands=(1, 2, 3, 4)) for name in names]
    return Taxonomy("test", tuple(infos))


def frame(labels, *directions):
    """A frame of 6 rows, all alike, with the given superpixels across; each has its direction."""
    labels = np.repeat(np.asarray([labels], np.int32), 6, axis=0)
    embedding = np.array([direction / np.linalg.norm(direction) for direction in directions], np.float32)
    count = len(embedding)
    return EmbeddedRegions(
        labels=labels,
        embedding=embedding,
        adjacent=np.array([[number, number + 1] for number in range(count - 1)], np.int32),
        contour=np.ones(count - 1, np.float32),
        band=np.full(count, 3, np.uint8),
        width=np.full(count, 0.5, np.float32),
        area=np.bincount(labels.ravel(), minlength=count),
    )


def check(frames, pixels, kind="scene"):
    """Check pixels, class name to (frame, x), of row 2."""
    at = {name: Pixel(image=image, x=x, y=2) for name, (image, x) in pixels.items()}
    images = {name: np.full((*frame.labels.shape, 3), 100, np.uint8) for name, frame in frames.items()}
    file = PixelFile(dataset="test", pixels=at)
    return check_annotations(frames, images, file, taxonomy(pixels, kind), SETTINGS)


TWO = [0, 0, 0, 1, 1, 1]


def test_two_worlds_that_nothing_joins():
    report = check({"one": frame(TWO, A, B), "two": frame(TWO, A, B)}, {"road": ("one", 0), "sky": ("one", 5)})
    assert report.frames == 2 and report.warnings == []
    # Each class's potential is one number in its world and the opposite one in the other: the lead is 2 deviations.
    for pixel in report.pixels:
        assert pixel.share == 1 / 4  # one region of four, the annotated ones do not count
        assert pixel.discriminative == pytest.approx(1 - np.exp(-2), abs=1e-3)
        assert pixel.area == 18 and pixel.candidates == ()
    assert [pixel.border for pixel in report.pixels] == [2.5, 2.5]
    assert report.pairs[0].names == ("road", "sky")
    assert report.pairs[0].interchangeable == pytest.approx(np.exp(-2 / TIE), rel=0.01)


def test_two_classes_on_one_region_are_interchangeable():
    frames = {name: frame(TWO, A, B) for name in ("one", "two")}
    report = check(frames, {"road": ("one", 0), "sidewalk": ("one", 0), "sky": ("one", 5)})
    assert report.pairs[0].interchangeable == 1
    assert report.warnings[-1] == report.pairs[0].warning
    assert report.warnings[-1].startswith("road and sidewalk: both pixels lie in one region")


def test_two_classes_on_regions_alike_are_interchangeable():
    frames = {name: frame([0, 0, 0, 1, 1, 1, 2, 2, 2], A, A, B) for name in ("one", "two")}
    report = check(frames, {"road": ("one", 0), "sidewalk": ("one", 5), "sky": ("one", 8)})
    assert report.warnings[-1].startswith("road and sidewalk are nearly interchangeable: ")


def test_the_most_interchangeable_pair_comes_first():
    frames = {name: frame([0, 0, 0, 1, 1, 1, 2, 2, 2], A, B, C) for name in ("one", "two")}
    frames["three"] = frame(TWO, A, A)
    report = check(frames, {"sky": ("one", 4), "road": ("one", 0), "tree": ("one", 8), "sidewalk": ("three", 0)})
    values = [pair.interchangeable for pair in report.pairs]
    assert report.pairs[0].names == ("road", "sidewalk") and values == sorted(values, reverse=True)
    assert len(values) == 6 and values[0] > INTERCHANGEABLE > values[1]
    assert [pair.warning is None for pair in report.pairs] == [False] + 5 * [True]


@pytest.mark.parametrize(("x", "border"), [(1, 1.5), (2, 0.5)])
def test_a_pixel_on_a_border_is_told(x, border):
    report = check({"one": frame(TWO, A, B), "two": frame(TWO, A, B)}, {"road": ("one", x), "sky": ("one", 5)})
    assert report.pixels[0].border == border
    (warning,) = report.warnings
    assert warning.startswith(f"road, x={x}, y=2 of one: {border} pixels from the border of something")


def test_a_border_with_more_of_the_same_is_none():
    report = check({"one": frame(TWO, A, A), "two": frame(TWO, B, B)}, {"road": ("one", 2), "sky": ("two", 5)})
    assert [pixel.border for pixel in report.pixels] == [None, None] and report.warnings == []


def test_a_tiny_region_is_told():
    small = frame([0, 0, 0, 1, 1, 1], A, B)
    labels = small.labels.copy()
    labels[1:3, 0] = 2  # 2 pixels; half a cell is 4.2
    small = EmbeddedRegions(
        labels=labels,
        embedding=np.stack([A, B, A]).astype(np.float32),
        adjacent=np.array([[0, 1], [0, 2]], np.int32),
        contour=np.ones(2, np.float32),
        band=np.full(3, 3, np.uint8),
        width=np.full(3, 0.5, np.float32),
        area=np.bincount(labels.ravel()),
    )
    report = check({"one": small, "two": frame(TWO, A, B)}, {"road": ("one", 0), "sky": ("one", 5)})
    (warning,) = report.warnings
    assert report.pixels[0].area == 2
    assert "road, x=0, y=2 of one: its region has 2 pixels, less than half a cell" in warning and "(4)" in warning


def test_a_region_where_its_class_may_not_be_is_told():
    wide = check_annotations(
        {"one": frame(TWO, A, B), "two": frame(TWO, A, B)},
        {name: np.full((6, 6, 3), 100, np.uint8) for name in ("one", "two")},
        PixelFile(dataset="test", pixels={"road": Pixel(image="one", x=0, y=2), "pole": Pixel(image="one", x=5, y=2)}),
        Taxonomy("test", (taxonomy(["road"]).classes[0], replace(taxonomy(["pole"]).classes[0], most_width=0.1))),
        SETTINGS,
    )
    assert any("pole, x=5, y=2 of one" in line and "spans 0.500 of" in line for line in wide.warnings)
    assert not any("road" in line and "spans" in line for line in wide.warnings)


def test_a_region_like_no_other_is_told():
    lone = frame([0, 0, 0, 1, 1, 1], A, C)
    report = check({"one": lone, "two": frame(TWO, A, A), "three": frame(TWO, B, B)},
                   {"road": ("one", 0), "tree": ("one", 5), "sky": ("three", 0)})  # fmt: skip
    assert report.pixels[1].share == 0 and report.pixels[1].discriminative == 0
    assert [warning for warning in report.warnings if "nothing in the other frames is taken for it" in warning] == [
        report.pixels[1].warnings[0]
    ]


def test_a_class_that_hardly_wins_much_is_told():
    both = A + 0.8 * B
    wide = [0] * 6 + [1] * 6
    frames = {
        "one": frame([0, 0, 0, 1, 1, 1, 2, 2, 2], A, B, C),
        "two": frame([0, 0, 0, 1, 1, 1, 2, 2, 2], A, B, C),
        "three": frame(wide, both, both),
        "four": frame(wide, both, both),
    }
    report = check(frames, {"car": ("one", 0), "pole": ("one", 4), "sign": ("one", 8)}, "object")
    greedy = [pixel for pixel in report.pixels if any("claims too much" in warning for warning in pixel.warnings)]
    assert [pixel.name for pixel in greedy] == ["car"]
    assert greedy[0].share == pytest.approx((18 + 4 * 36) / (2 * 54 + 4 * 36)) and greedy[0].discriminative < 1 / 3
