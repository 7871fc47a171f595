"""A frame of 6 x 6 pixels, four superpixels and three classes, whose intermediates can be worked out by hand."""

import numpy as np

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.annotations.pixels import Pixel, PixelFile
from training.configuration import load_settings
from training.features.embedding import EmbeddedRegions
from training.inspection.collect import FrameFeatures, annotated_embedding, by_similarity, cosine, intermediates
from training.pseudo_labels.propagation import Propagation, class_handicap
from training.pseudo_labels.scoring import score_by_propagation
from training.taxonomy import ClassInfo, Taxonomy


def info(name, kind, colour, bands=(1, 2, 3, 4)):
    return ClassInfo(name=name, colour=colour, category=name, kind=kind, bands=bands)


TAXONOMY = Taxonomy(
    "test",
    (
        info("road", "scene", (200, 0, 0), (3, 4)),
        info("wall", "scene", (0, 200, 0)),
        info("</script>", "object", (0, 0, 200)),
    ),
)
SUPERPIXELS = np.repeat(np.repeat([[0, 1], [2, 3]], 3, axis=0), 3, axis=1).astype(np.int32)
FEATURES = make_features(
    4,
    labels=SUPERPIXELS,
    semantic=np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.25, 0.75, 0], [0, 0, 0, 1]], np.float32),
    colour=np.tile(one_hot([0, 0, 9, 20], 32) / 3, (1, 3)),
    edge_similarity=np.array([[1, 1, 0, 0], [1, 1, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 1]], np.float32),
    band=np.array([3, 3, 4, 4], np.uint8),
    width=np.full(4, 0.5, np.float32),
    area=np.full(4, 9),
)
"""Road, road, wall, the object."""
REGIONS = EmbeddedRegions(
    labels=SUPERPIXELS,
    embedding=np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [-0.6, 0, 0.8]], np.float32),
    adjacent=np.array([[0, 1], [0, 2], [1, 3], [2, 3]], np.int32),
    contour=np.ones(4, np.float32),
    band=FEATURES.band,
    width=FEATURES.width,
    area=FEATURES.area,
)
SPREAD = np.array([[1, 0, 0], [0.75, 0.25, 1.125], [0, 1, 1.5], [0, 0, 2]], np.float32)
"""Scores from a graph: the object's margin of 0.4 keeps superpixel 1 a road, and not superpixel 2 a wall."""
PIXELS = PixelFile(
    dataset="test",
    pixels={
        "road": Pixel(image="frame", x=0, y=1),
        "wall": Pixel(image="frame", x=1, y=4),
        "</script>": Pixel(image="frame", x=5, y=5),
    },
)
FRAME = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
TRUTH = np.where(SUPERPIXELS == 3, 2, SUPERPIXELS // 2).astype(np.uint8)


def make_intermediates(preset, *overrides, truth=TRUTH):
    settings = load_settings("streets", [f"pseudo_labels.preset={preset}", *overrides])
    if settings.pseudo_labels.method == "similarity":
        load = {"frame": FEATURES}.__getitem__
        features, scoring = by_similarity(settings, "frame", ["frame"], PIXELS, TAXONOMY, load)
    else:
        load = {"frame": REGIONS}.__getitem__
        handicap = class_handicap(SPREAD, np.ones((4, 3), bool), REGIONS.area, TAXONOMY, settings.propagation)
        graph = Propagation(("frame",), np.array([0, 4]), REGIONS.embedding, SPREAD, handicap, settings.propagation)
        scoring = score_by_propagation(["frame"], load, graph, TAXONOMY, settings.pseudo_labels)
        class_maps = cosine(REGIONS.embedding, annotated_embedding(PIXELS, load, TAXONOMY))
        features = FrameFeatures(regions=FEATURES, embedding=REGIONS.embedding, class_maps=class_maps)
    return intermediates(features, scoring, settings, frame_id="frame", frame=FRAME, truth=truth, pixels=PIXELS)
