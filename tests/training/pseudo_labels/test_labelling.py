import numpy as np
import pytest

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.annotations.pixels import Pixel, PixelFile
from training.pseudo_labels.labelling import initial_labels, iterated_labels, represent_classes
from training.settings import PseudoLabelSettings, RepresentationSettings
from training.taxonomy import ClassInfo, Taxonomy


def info(name, kind, bands=(1, 2, 3, 4)):
    return ClassInfo(name=name, colour=(0, 0, 0), category=name, kind=kind, bands=bands)


TAXONOMY = Taxonomy("test", (info("road", "scene", (3, 4)), info("wall", "scene"), info("car", "object")))

# One frame of four superpixels: road, road, wall, car; edges between those that differ.
COLOUR = np.tile(one_hot([0, 0, 9, 20], 32) / 3, (1, 3))
SEMANTIC = one_hot([0, 0, 1, 2], 4)
EDGES = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
FEATURES = make_features(4, colour=COLOUR, semantic=SEMANTIC, edge_similarity=EDGES)
PIXELS = PixelFile(
    dataset="test",
    pixels={name: Pixel(image="frame", x=0, y=row) for name, row in {"road": 0, "wall": 2, "car": 3}.items()},
)


@pytest.mark.parametrize("preset", ["paper", "literal"])
def test_a_frame_is_labelled_from_one_pixel_per_class(preset):
    load = {"frame": FEATURES}.__getitem__
    representations = represent_classes(PIXELS, load, TAXONOMY, RepresentationSettings())
    settings = PseudoLabelSettings(preset=preset, object_threshold=1.5)
    labels = dict(initial_labels(["frame"], load, representations, TAXONOMY, settings))
    assert labels["frame"].tolist() == [0, 0, 1, 2]


def test_a_class_never_stands_outside_its_bands():
    load = {
        "frame": make_features(4, colour=COLOUR, semantic=SEMANTIC, edge_similarity=EDGES, band=np.full(4, 1, np.uint8))
    }.__getitem__
    representations = represent_classes(PIXELS, load, TAXONOMY, RepresentationSettings())
    settings = PseudoLabelSettings(object_threshold=1.5, scene_threshold=-9)
    assert dict(initial_labels(["frame"], load, representations, TAXONOMY, settings))["frame"].tolist() == [1, 1, 1, 2]


def test_the_next_round_ignores_superpixels_on_which_the_network_is_split():
    features = make_features(
        3, labels=np.array([[0, 0], [1, 1], [2, 2]], np.int32), edge_similarity=np.eye(3, dtype=np.float32)
    )
    prediction = np.array([[0, 0], [1, 2], [2, 2]], np.uint8)
    settings = PseudoLabelSettings(edge_scale=0.01, round_threshold=0.6)
    assert iterated_labels(features, prediction, TAXONOMY, settings).tolist() == [0, 255, 2]
