import numpy as np
from PIL import Image

from training.evaluation.figures import marked, overlay, panel, save_png
from training.taxonomy import CAMVID, CITYSCAPES


def test_overlay_by_hand():
    frame = np.full((1, 2, 3), 100, np.uint8)
    blended = overlay(frame, np.array([[0, 255]], np.uint8), CAMVID)
    # Sky, 128, at 0.65 over grey 100 at 0.35; ignored keeps a quarter of the grey.
    assert blended.tolist() == [[[118, 118, 118], [25, 25, 25]]]


def test_panel_shows_the_frame_and_each_mask():
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    masks = {name: np.full((48, 96), value, np.uint8) for name, value in (("prediction", 3), ("truth", 255))}
    picture = panel(frame, masks, CITYSCAPES)
    assert picture.dtype == np.uint8 and picture.shape[1] == 8 + 3 * (96 + 8)
    top = next(y for y in range(picture.shape[0]) if np.array_equal(picture[y, 8:104], frame[0]))
    for column, expected in enumerate([frame, *(overlay(frame, mask, CITYSCAPES) for mask in masks.values())]):
        left = 8 + column * 104
        assert np.array_equal(picture[top : top + 48, left : left + 96], expected)


def test_legend_holds_every_colour():
    frame = np.zeros((48, 96, 3), np.uint8)
    picture = panel(frame, {}, CITYSCAPES)
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert {info.colour for info in CITYSCAPES.classes} <= colours


def test_annotated_pixels_are_ringed_in_their_colours_and_named():
    frame = np.full((40, 60, 3), 100, np.uint8)
    picture = marked(frame, {"Sky": (10, 5), "Road": (55, 30)}, CAMVID, 2)
    assert picture.shape == (80, 120, 3)
    for name, (x, y), beside in (("Sky", (21, 11), 20), ("Road", (111, 61), -20)):
        assert (picture[y, x] == 100).all()  # the pixel itself is seen
        colour = CAMVID.classes[CAMVID.names.index(name)].colour
        assert (picture[y - 9 : y + 10, x - 9 : min(x + 10, 120)] == colour).all(axis=2).any()
        text = picture[y - 8 : y + 8, slice(*sorted((x + beside // 2, x + 2 * beside)))]
        assert (text == 255).all(axis=2).any() and (text == 0).all(axis=2).any()


def test_save_png(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    save_png(picture, tmp_path / "panel.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "panel.png")), picture)
    assert [file.name for file in tmp_path.iterdir()] == ["panel.png"]
