import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from serving.errors import InputError
from training.cli import main
from training.datasets.salient import SalientFolder, SalientScenes
from training.features.saliency.fit import divide, fit_forest
from training.features.saliency.forest import Forest, load_forest

COUNT = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("salient")
    images, masks = root / "images", root / "masks"
    images.mkdir(), masks.mkdir()
    scenes = SalientScenes(COUNT, seed=5, size=(90, 120))
    for number in range(COUNT):
        frame, mask = scenes[number]
        Image.fromarray(frame).save(images / f"{number}.png")
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(masks / f"{number}.png")
    return images, masks


def test_images_are_divided_into_three_parts_without_a_common_one():
    scenes = [(np.zeros((1, 1, 3), np.uint8), np.full((1, 1), number)) for number in range(25)]
    parts = divide(scenes)
    held = [{int(mask[0, 0]) for _, mask in part} for part in (parts.forest, parts.fusion, parts.held_out)]
    assert [len(part) for part in held] == [16, 4, 5]
    assert set.union(*held) == set(range(25))
    with pytest.raises(InputError, match="4 are too few"):
        divide(scenes[:4])


def test_the_command_fits_and_reports(folders, tmp_path):
    images, masks = folders
    out = tmp_path / "forest.onnx"
    arguments = ["saliency", "fit", "--images", str(images), "--masks", str(masks), "--out", str(out), "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1
    assert report["images"] + report["fusion_images"] + report["held_out_images"] == COUNT
    assert set(report["auc"]) == {"drfi", "robust_background", "geodesic"}
    assert all(0 <= value <= 1 for value in report["auc"].values())
    assert report["bytes"] == out.stat().st_size
    metadata = load_forest(str(out)).metadata
    assert metadata.auc == report["auc"] and list(metadata.fusion_weights) == report["fusion_weights"]
    assert metadata.fitting.regions == report["regions"]
    assert str(tmp_path) not in metadata.model_dump_json()


def test_the_same_images_give_the_same_bytes():
    parts = divide(SalientScenes(6, seed=5, size=(60, 80)))
    first, second = (fit_forest(parts, source="scenes", command="")[0].SerializeToString() for _ in range(2))
    assert first == second
    assert Forest(first, "first").metadata.fitting.source == "scenes"


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, r"3\.png: no such file; .* must hold a mask for every image"),
        (np.zeros((90, 120), np.uint8), r"3\.png: no pixel is 128 or more"),
        (np.ones((90, 120), np.uint8), r"3\.png: no pixel is 128 or more"),
        (np.full((90, 120), 255, np.uint8), r"3\.png: every pixel is 128 or more"),
        (np.eye(80, 120, dtype=np.uint8) * 255, r"3\.png: is 80 x 120, its image .*3\.png is 90 x 120"),
        (np.full((90, 120, 3), 255, np.uint8), r"3\.png: label image has mode RGB"),
    ],
)
def test_a_wrong_mask_is_named(folders, tmp_path, mask, message):
    images, masks = folders
    for path in masks.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if mask is None:
        (tmp_path / "3.png").unlink()
    else:
        Image.fromarray(mask).save(tmp_path / "3.png")
    with pytest.raises(InputError, match=message):
        SalientFolder(images, tmp_path)


def test_wrong_folders_files_and_names_end_with_status_2(folders, tmp_path):
    images, masks = folders
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.jpg").write_bytes(b"no image")
    for given, message in [
        ((tmp_path / "absent", masks, "a.onnx"), "absent: no such folder"),
        ((images, tmp_path / "absent", "a.onnx"), "absent: no such folder"),
        ((tmp_path / "empty", masks, "a.onnx"), "holds no image"),
        ((broken, masks, "a.onnx"), "0.jpg: not a readable image"),
        ((images, masks, "a.npz"), "a.npz: must end in .onnx"),
    ]:
        options = zip(("--images", "--masks", "--out"), map(str, given), strict=True)
        done = CliRunner().invoke(main, ["saliency", "fit", *(word for option in options for word in option)])
        assert done.exit_code == 2 and message in done.stderr, done.output


def test_masks_of_specks_leave_nothing_to_learn():
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[::20, ::20] = True
    with pytest.raises(InputError, match=r"no region of the images is salient"):
        fit_forest(divide([(frame, mask)] * 5), source="specks", command="")
