"""A frame of 6 x 6 pixels, four superpixels and three classes, whose intermediates can be worked out by hand."""

import numpy as np

from tests.training.pseudo_labels.regions import make_features, one_hot
from training.annotations.pixels import Pixel, PixelFile
from training.inspection.collect import intermediates, label_data_set
from training.pseudo_labels.labelling import represent_classes
from training.settings import Settings
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
    area=np.full(4, 9),
)
"""Road, road, wall, the object."""
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
OVERRIDES = {"name": "test", "pixels": "test", "dataset": {"name": "streets"}, "cam": {"weights": "embedded"}}


def make_settings(**pseudo_labels):
    return Settings.model_validate(OVERRIDES | {"pseudo_labels": pseudo_labels})


def make_intermediates(truth=TRUTH, **pseudo_labels):
    settings = make_settings(**pseudo_labels)
    load = {"frame": FEATURES}.__getitem__
    representations = represent_classes(PIXELS, load, TAXONOMY, settings.representation)
    labelling = label_data_set("frame", ["frame"], load, representations, TAXONOMY, settings.pseudo_labels)
    return intermediates(
        FEATURES,
        FRAME,
        representations,
        labelling,
        settings,
        frame_id="frame",
        frames=1,
        taxonomy=TAXONOMY,
        truth=truth,
        pixels=PIXELS,
    )
