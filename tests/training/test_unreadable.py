"""Images that cannot be decoded, one to train on and one to evaluate on, on the way through a whole run."""

import json
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.training.conftest import FRAMES, SIZE
from training.annotations.pixels import load_pixels
from training.cli import main
from training.datasets.streets import Streets
from training.taxonomy import CITYSCAPES


@pytest.fixture
def broken(tiny_streets, tmp_path):
    """The folder of the tiny streets as files, in each split of which an image is cut off; and the overrides."""
    root = tmp_path / "frames"
    for split in ("train", "val"):
        streets = Streets(split, size=SIZE, train_frames=FRAMES)
        for frame_id in streets.frame_ids:
            for kind, pixels in (("images", streets.frame(frame_id)), ("labels", streets.labels(frame_id))):
                path = root / split / kind / f"{frame_id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        whole = (root / split / "images" / f"{streets.frame_ids[0]}.png").read_bytes()
        (root / split / "images" / f"broken_{split}.png").write_bytes(whole[: len(whole) // 2])
        shutil.copy(
            root / split / "labels" / f"{streets.frame_ids[0]}.png", root / split / "labels" / f"broken_{split}.png"
        )
    source = tiny_streets[0].removeprefix("pixels=")
    pixels = load_pixels(source, CITYSCAPES, "streets").model_copy(update={"dataset": "folder"})
    (tmp_path / "pixels.yaml").write_text(json.dumps(pixels.model_dump()))
    overrides = [
        *tiny_streets,
        f"dataset={{name: folder, root: {root}, taxonomy: cityscapes}}",
        f"pixels={tmp_path / 'pixels.yaml'}",
        "iterations.rounds=1",
        "training.updates=1",
    ]
    return root, overrides


def train(overrides, out, *more):
    options = [text for override in [*overrides, *more] for text in ("--set", override)]
    return CliRunner().invoke(main, ["train", "streets", "--out", str(out), "--json", *options])


def test_they_are_left_out_by_name_or_end_the_run(broken, tmp_path, caplog):
    root, overrides = broken
    images = {split: root / split / "images" / f"broken_{split}.png" for split in ("train", "val")}
    left_out = train(overrides, tmp_path / "skip", "dataset.unreadable=skip")
    assert left_out.exit_code == 0, left_out.output
    for split, image in images.items():
        assert caplog.text.count(f"warning: frame 'broken_{split}' is left out: {image}: ") == 1
    assert json.loads(left_out.stdout)["miou_class"][0] > 0
    assert len(list((tmp_path / "skip" / "round_0" / "pseudo_labels").glob("*.png"))) == FRAMES
    assert not list((tmp_path / "skip").rglob("broken*"))

    stopped = train(overrides, tmp_path / "stop")
    assert stopped.exit_code == 2 and f"error: {images['val']}: " in stopped.stderr
    images["val"].write_bytes((root / "train" / "images" / "streets_train_0000.png").read_bytes())
    stopped = train(overrides, tmp_path / "mended")
    assert stopped.exit_code == 2 and f"error: {images['train']}: " in stopped.stderr
