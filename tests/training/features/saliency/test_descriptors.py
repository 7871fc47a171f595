import numpy as np
import pytest

from training.features.saliency.descriptors import DESCRIPTORS, DIFFERENCES, PROPERTIES, describe, differences
from training.features.saliency.pixels import pixel_features
from training.features.saliency.segmentation import region_graph
from training.features.saliency.statistics import region_statistics
from training.features.saliency.tiles import cropped


def described(frame, labels, down=1, across=1):
    """Return the features of each region of a frame by name, for regions that lie in one tile each."""
    count, view = int(labels.max()) + 1, cropped(*labels.shape, down, across)
    pixels = pixel_features(frame)
    tile = np.zeros(count, np.int32)
    tile[labels] = view.tile
    values = describe(
        region_statistics(pixels, labels, count),
        region_graph(labels, count).cut(tile),
        view,
        tile,
        region_statistics(pixels, view.strip, len(view.size)),
    )
    assert values.dtype == np.float32 and np.isfinite(values).all()
    return [dict(zip(DESCRIPTORS, row.tolist(), strict=True)) for row in values]


def white_on_black():
    """A white square of 4 x 4 in a black frame of 8 x 8."""
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6] = 1
    return np.where(labels[..., None] == 1, 255, 0).astype(np.uint8).repeat(3, axis=2), labels


def test_there_are_29_and_29_and_35_with_names_of_their_own():
    assert len(DIFFERENCES) == 29
    assert len(PROPERTIES) == 35
    assert len(DESCRIPTORS) == 93
    assert len(set(DESCRIPTORS)) == 93
    assert [name.split()[0] for name in DESCRIPTORS] == ["contrast"] * 29 + ["backgroundness"] * 29 + ["property"] * 35


def test_two_regions_by_hand():
    ground, square = described(*white_on_black())
    for name in ("red", "green", "blue", "lightness", "value"):
        # The strip along the border, one pixel wide, is black; so is all around the square.
        assert square[f"backgroundness {name}"] == pytest.approx(1, abs=1e-5)
        assert square[f"contrast {name}"] == ground[f"contrast {name}"] == pytest.approx(1, abs=1e-5)
        assert ground[f"backgroundness {name}"] == pytest.approx(0, abs=1e-6)
    for name in ("RGB", "CIELAB", "HSV"):
        # No bin in common: 2 (1 - 0)^2 / 1, twice.
        assert square[f"backgroundness {name} histogram"] == pytest.approx(4)
        assert square[f"contrast {name} histogram"] == pytest.approx(4)
        assert ground[f"backgroundness {name} histogram"] == 0
    assert square["contrast hue"] == square["contrast saturation"] == 0
    places = {"mean": 0.5, "10th percentile": 2.5 / 8, "90th percentile": 5.5 / 8}
    for place, value in places.items():
        assert square[f"property {place} x"] == square[f"property {place} y"] == pytest.approx(value)
    assert square["property area"] == pytest.approx(16 / 64)
    assert square["property area of neighbours"] == ground["property area"] == pytest.approx(48 / 64)
    assert square["property perimeter"] == pytest.approx(16 / 32)
    assert ground["property perimeter"] == pytest.approx((16 + 32) / 32)
    assert square["property aspect ratio"] == ground["property aspect ratio"] == 1
    assert square["property variance red"] == 0
    assert square["property variance pattern"] > 0  # white on the rim of the square is at least as bright as within


def test_neighbours_weigh_by_their_area():
    # A column of white between one of black, 1 wide, and one of grey, 3 wide.
    labels = np.array([[0, 1, 2, 2, 2]] * 4, np.int32)
    frame = np.array([0, 255, 51], np.uint8)[labels][..., None].repeat(3, axis=2)
    black, white, grey = described(frame, labels)
    assert white["contrast red"] == pytest.approx(1 / 4 * 1 + 3 / 4 * 0.8)
    assert black["contrast red"] == pytest.approx(1)
    assert grey["contrast red"] == pytest.approx(0.8)
    assert white["property area of neighbours"] == pytest.approx(16 / 20)
    assert grey["property aspect ratio"] == pytest.approx(3 / 4)
    assert white["property mean x"] == pytest.approx(0.3) and white["property mean y"] == pytest.approx(0.5)


def test_a_tile_is_a_view_of_its_own():
    frame, labels = white_on_black()
    tiled = np.where(np.arange(16) < 8, 0, 2) + np.concatenate([labels, labels], axis=1)
    wide = np.concatenate([frame, frame[:, :, :] // 5], axis=1)
    ground, square, dim_ground, dim_square = described(wide, tiled.astype(np.int32), 1, 2)
    assert square["backgroundness red"] == pytest.approx(1, abs=1e-5)
    assert dim_square["backgroundness red"] == dim_square["contrast red"] == pytest.approx(0.2, abs=1e-5)
    for name in DESCRIPTORS[58:66] + DESCRIPTORS[-2:]:  # places, shape and areas
        assert dim_square[name] == pytest.approx(square[name]) and dim_ground[name] == pytest.approx(ground[name])


def test_a_region_alone_has_no_contrast():
    (alone,) = described(np.full((6, 6, 3), 90, np.uint8), np.zeros((6, 6), np.int32))
    assert [value for name, value in alone.items() if name.startswith("contrast")] == [0] * 29
    assert alone["property area"] == 1 and alone["property area of neighbours"] == 0


def test_percentiles_are_of_the_sorted_places():
    # 10 pixels in a row: the 1st is the 10th percentile, the 9th the 90th.
    (alone,) = described(np.zeros((1, 10, 3), np.uint8), np.zeros((1, 10), np.int32))
    assert alone["property 10th percentile x"] == pytest.approx(0.05)
    assert alone["property 90th percentile x"] == pytest.approx(0.85)


def test_mirrored_regions_differ_alike():
    frame = np.zeros((12, 20, 3), np.uint8)
    labels = np.zeros((12, 20), np.int32)
    for number, place in ((1, np.s_[3:9, 3:8]), (2, np.s_[3:9, 12:17])):
        labels[place], frame[place] = number, (200, 60, 30)
    _, left, right = described(frame, labels)
    for name in ("red", "lightness", "hue", "RGB histogram", "response gaussian", "response edge 0", "response bar 90"):
        assert left[f"contrast {name}"] == pytest.approx(right[f"contrast {name}"], abs=1e-5)
        assert left[f"backgroundness {name}"] == pytest.approx(right[f"backgroundness {name}"], abs=1e-5)
    assert left["property mean x"] == pytest.approx(1 - right["property mean x"])


def test_chi_square_distance_is_bounded_and_symmetric():
    pixels = pixel_features(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    regions = region_statistics(pixels, (np.indices((9, 9))[0] // 3).astype(np.int32), 3)
    there, back = (differences(regions, np.array([one]), regions, np.array([1 - one])) for one in (0, 1))
    assert there == pytest.approx(back)
    assert there.min() >= 0 and there.max() <= 4
    assert differences(regions, np.arange(3), regions, np.arange(3)) == pytest.approx(np.zeros((3, 29)))
