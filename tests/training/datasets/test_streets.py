import hashlib
import subprocess
import sys

import numpy as np
import pytest

from serving.errors import InputError
from training.datasets import open_dataset
from training.datasets.streets import render
from training.datasets.streets.canvas import Canvas, Pen, class_id
from training.datasets.streets.scene import FEATURES, Street, draw_stage
from training.settings import DatasetSettings
from training.taxonomy import CITYSCAPES

SIZE = (48, 96)


@pytest.fixture(scope="module")
def labels_of_48_frames():
    return [render((96, 192), "train", index, 0)[1] for index in range(48)]


def test_every_class_is_in_several_of_the_training_frames(labels_of_48_frames):
    frames = np.zeros(len(CITYSCAPES.classes), int)
    for labels in labels_of_48_frames:
        frames[np.unique(labels)] += 1
    rare = {name: count for name, count in zip(CITYSCAPES.names, frames, strict=True) if count < 4}
    assert not rare


def test_every_pixel_has_a_class_and_few_stand_outside_their_bands(labels_of_48_frames):
    labels = np.stack(labels_of_48_frames)
    assert labels.max() < len(CITYSCAPES.classes)
    bands = np.repeat(np.arange(4), labels.shape[1] // 4)[None, :, None]
    assert CITYSCAPES.allowed[bands, labels].mean() > 0.97


def test_frequencies_are_those_of_driving_scenes(labels_of_48_frames):
    counts = np.bincount(np.stack(labels_of_48_frames).ravel(), minlength=19)
    largest = {CITYSCAPES.names[index] for index in np.argsort(counts)[-5:]}
    assert largest == {"road", "building", "vegetation", "sky", "car"}


def test_a_frame_is_the_same_in_another_process():
    script = (
        "import hashlib; from training.datasets.streets import render; frame, labels = render((48, 96), 'val', 3, 7); "
        "print(hashlib.sha256(frame.tobytes() + labels.tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    frame, labels = render((48, 96), "val", 3, 7)
    assert hashlib.sha256(frame.tobytes() + labels.tobytes()).hexdigest() == answer


def test_seed_split_and_index_each_make_another_scene():
    frame = render(SIZE, "train", 0, 0)[0]
    for other in (render(SIZE, "train", 0, 1), render(SIZE, "val", 0, 0), render(SIZE, "train", 1, 0)):
        assert not np.array_equal(frame, other[0])


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (47, 33), (65, 201), (201, 65)])
def test_any_size_works(size):
    frame, labels = render(size, "train", 2, 0)
    assert frame.shape == (*size, 3)
    assert labels.shape == size


def test_evaluation_has_half_as_many_frames_and_other_splits_are_errors():
    settings = DatasetSettings(name="streets", size=SIZE, frames=9)
    assert len(open_dataset(settings, "train")) == 9
    assert open_dataset(settings, "val").frame_ids == tuple(f"streets_val_{index:04d}" for index in range(4))
    assert open_dataset(settings, "val").encoded("streets_val_0000") is None
    with pytest.raises(InputError, match=r"'test'.*train, val"):
        open_dataset(settings, "test")


def _flat(pen, colours, shade=1.0):
    """A light under which everything shows its class's colour, and what has no class nothing."""
    return np.broadcast_to(CITYSCAPES.palette[pen.class_id].astype(float), np.shape(colours))


@pytest.mark.parametrize("index", range(len(FEATURES)))
def test_labels_are_exact(index, monkeypatch):
    """Where every class is painted in its palette colour, the colours alone give the labels back, pixel by pixel."""
    rng = np.random.default_rng([0, index])
    stage = draw_stage(96, 192, rng)

    def keep_scenery(_stage, *_rest):
        canvas = stage.canvas
        canvas.labels[:] = class_id("road")
        canvas.colours[:] = CITYSCAPES.palette[class_id("road")]

    monkeypatch.setattr("training.datasets.streets.scene.paint_sky", keep_scenery)
    monkeypatch.setattr("training.datasets.streets.scene.paint_ground", keep_scenery)
    monkeypatch.setattr(Pen, "tint", _flat)
    monkeypatch.setattr(Pen, "_tint_one", lambda pen, _colour, _shade: CITYSCAPES.palette[pen.class_id].tolist())
    monkeypatch.setattr(Pen, "veil", _veil_in_full(Pen.veil))
    monkeypatch.setattr("training.datasets.streets.structures.fence_texture", _opaque)
    Street(stage, FEATURES[index]).paint()
    assert len(np.unique(stage.canvas.labels)) > 5
    assert np.array_equal(stage.canvas.colours, CITYSCAPES.palette[stage.canvas.labels])


def _veil_in_full(veil):
    def painted(pen, points, _colour, _strength):
        if pen.class_id is not None:
            veil(pen, points, CITYSCAPES.palette[pen.class_id], 1.0)

    return painted


def _opaque(_stage, rows, columns, _ppm):
    return np.zeros((rows, columns, 3), np.uint8), np.full((rows, columns), 255, np.uint8)


@pytest.mark.parametrize("way", ["fill", "stroke", "disc", "veil", "paste", "warp"])
def test_a_pen_labels_exactly_the_pixels_it_paints(way):
    canvas = Canvas(20, 30)
    pen, corners = Pen(canvas, class_id("car")), [[3.3, 2.1], [25.7, 4.9], [33.0, 25.0], [-4.2, 14.6]]
    paint = {
        "fill": lambda: pen.fill(corners, (200, 90, 10)),
        "stroke": lambda: pen.stroke(corners, (200, 90, 10), 3),
        "disc": lambda: pen.disc((12.4, 8.8), 5.3, (200, 90, 10)),
        "veil": lambda: pen.veil(corners, (200, 90, 10), 0.5),
        "paste": lambda: pen.paste(-2, 15, np.full((9, 9, 3), 90), np.eye(9) > 0),
        "warp": lambda: pen.warp(np.full((7, 5, 3), 90, np.uint8), corners),
    }
    paint[way]()
    painted = canvas.colours.any(axis=2)
    assert 0 < painted.sum() < 600
    assert np.array_equal(canvas.labels == class_id("car"), painted)
    assert set(np.unique(canvas.labels[~painted])) == {255}


def test_a_pen_without_a_class_leaves_the_labels_alone():
    canvas = Canvas(8, 8)
    Pen(canvas, None).fill([[0, 0], [7, 0], [7, 7]], (255, 255, 255))
    assert (canvas.labels == 255).all()
