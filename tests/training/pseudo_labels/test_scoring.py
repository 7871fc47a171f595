import numpy as np
import pytest

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.annotations.pixels import Pixel, PixelFile
from training.configuration import load_settings
from training.features.embedding import EmbeddedRegions
from training.pseudo_labels.propagation import Propagation
from training.pseudo_labels.representation import represent_classes
from training.pseudo_labels.scoring import score_by_propagation, score_by_similarity
from training.settings.method import PropagationSettings, PseudoLabelSettings, RepresentationSettings
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


LITERAL = load_settings("streets", ["pseudo_labels.preset=literal"]).pseudo_labels
PAPER = load_settings("streets", ["pseudo_labels.preset=paper", "pseudo_labels.object_threshold=1.5"]).pseudo_labels


def scored(settings, features=FEATURES):
    load = {"frame": features}.__getitem__
    representations = represent_classes(PIXELS, load, TAXONOMY, RepresentationSettings())
    return score_by_similarity(["frame"], load, representations, TAXONOMY, settings)


@pytest.mark.parametrize("settings", [PAPER, LITERAL], ids=["paper", "literal"])
def test_a_frame_is_labelled_from_one_pixel_per_class(settings):
    assert scored(settings).labels("frame").tolist() == [0, 0, 1, 2]


def test_a_class_never_stands_outside_its_bands_unless_location_is_off():
    features = make_features(4, colour=COLOUR, semantic=SEMANTIC, edge_similarity=EDGES, band=np.full(4, 1, np.uint8))
    assert scored(PAPER.model_copy(update={"scene_threshold": -9}), features).labels("frame").tolist() == [1, 1, 1, 2]
    settings = PAPER.model_copy(update={"scene_threshold": -9, "location": False})
    assert scored(settings, features).labels("frame").tolist() == [0, 0, 1, 2]


def test_relative_scores_are_deviations_before_and_after_refinement():
    frame = scored(PAPER).frames["frame"]
    for scores in (frame.before, frame.after):
        np.testing.assert_allclose(scores[:, 1:].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(scores[:, 1:].std(axis=0), 1, atol=1e-5)


def test_without_context_scores_stay():
    frame = scored(LITERAL.model_copy(update={"context": False})).frames["frame"]
    assert np.array_equal(frame.before, frame.after)


def propagated(scores):
    count = len(scores)
    regions = EmbeddedRegions(
        labels=np.arange(count, dtype=np.int32)[None],
        embedding=np.eye(count, dtype=np.float32),
        adjacent=np.zeros((0, 2), np.int32),
        contour=np.zeros(0, np.float32),
        band=np.full(count, 3, np.uint8),
        width=np.full(count, 1 / count, np.float32),
        area=np.ones(count, np.int64),
    )
    graph = Propagation(
        ("frame",),
        np.array([0, count]),
        regions.embedding,
        np.array(scores, np.float32),
        np.array([0, 0, 0.4], np.float32),
        PropagationSettings(),
    )
    return score_by_propagation(["frame"], lambda _: regions, graph, TAXONOMY, PseudoLabelSettings())


def test_an_object_must_win_by_the_margin_and_what_nothing_is_known_of_is_ignored():
    scores = [[1, 0, 1.3], [1, 0, 1.5], [0, 1, 0], [0, 0, 0]]
    assert propagated(scores).labels("frame").tolist() == [0, 2, 1, 255]
