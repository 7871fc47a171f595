"""What ships to be served: the file is whole, small, and says what its card says."""

from pathlib import Path

import numpy as np

from serving.commands import SHIPPED_MODEL
from serving.model import Model
from training.annotations.pixels import load_pixels
from training.taxonomy import CAMVID

STORE = Path(__file__).parents[1]


def test_the_shipped_model_is_camvids():
    path = STORE / SHIPPED_MODEL
    assert path.stat().st_size <= 16 << 20
    model = Model.load(path)
    metadata = model.metadata
    assert tuple(one.name for one in metadata.classes) == CAMVID.names
    assert metadata.pixels_digest == load_pixels("camvid", CAMVID, "camvid").digest()
    card = (path.parents[1] / "README.md").read_text("utf-8")
    assert f"class mIoU {100 * metadata.metrics['val/miou_class']:.1f} %" in card
    for name in CAMVID.names:
        assert f"| {name} | {100 * metadata.metrics[f'val/iou/{name}']:.1f} |" in card
    mask, confidence = model.segment(np.full((360, 480, 3), 128, np.uint8))
    assert mask.shape == confidence.shape == (360, 480) and mask.max() < len(CAMVID.classes)
