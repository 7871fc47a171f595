from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from serving.errors import InputError
from training.annotations.pixels import check_pixels, load_pixels
from training.datasets.base import Dataset
from training.datasets.camvid import CamVid
from training.datasets.streets import Streets
from training.taxonomy import CAMVID, CITYSCAPES, ClassInfo, Taxonomy

CAMVID_ROOT = Path("../shared/data/camvid")
PIXEL_FILES = files("training") / "annotations"


def info(name):
    return ClassInfo(name=name, colour=(0, 0, 0), category=name, kind="scene", bands=(1,))


TAXONOMY = Taxonomy("two", (info("road"), info("sky")))


class TwoPixels(Dataset):
    """One frame, two pixels wide: sky, then road."""

    taxonomy = TAXONOMY
    split = "train"
    frame_ids = ("a",)
    has_labels = True

    def frame(self, frame_id):
        return np.zeros((1, 2, 3), np.uint8)

    def labels(self, frame_id):
        return np.array([[1, 0]], np.uint8)


def write(folder, text):
    path = folder / "pixels.yaml"
    path.write_text(text)
    return str(path)


GOOD = "dataset: two\npixels:\n  road: {image: a, x: 1, y: 0}\n  sky: {image: a, x: 0, y: 0}\n"
REORDERED = "# a comment\npixels:\n  sky: {y: 0, x: 0, image: a}\n  road: {image: a, x: 1, y: 0}\ndataset: two\n"


def test_a_good_file(tmp_path):
    source = write(tmp_path, GOOD)
    pixels = load_pixels(source, TAXONOMY, "two")
    assert pixels.frame_ids == ["a"]
    assert check_pixels(pixels, TwoPixels(), source) == []


def test_the_digest_is_of_what_is_annotated(tmp_path):
    digest = load_pixels(write(tmp_path, GOOD), TAXONOMY, "two").digest()
    assert load_pixels(write(tmp_path, REORDERED), TAXONOMY, "two").digest() == digest
    assert load_pixels(write(tmp_path, GOOD.replace("x: 1", "x: 0")), TAXONOMY, "two").digest() != digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  sky: {image: a, x: 0, y: 0}\n", ""), "no pixel for sky; each class needs exactly one"),
        (("sky:", "cloud:"), "'cloud' is no class of two: road, sky"),
        (("sky:", "Sky:"), "'Sky' is no class of two; did you mean 'sky': road, sky"),
        ((GOOD, ""), r"pixels\.yaml: dataset: Field required"),
        (("  road", "road"), r"pixels\.yaml"),
        (("dataset: two", "dataset: folder"), r"pixels\.yaml: dataset: its pixels are of 'folder', .* set is 'two'"),
        (("sky:", "road:"), "line 4, column 3: 'road' stands twice"),
        (("x: 0", "x: -1"), r"pixels\.sky\.x: .*got -1"),
        (("x: 0, y: 0", "x: 0"), r"pixels\.sky\.y: Field required"),
        (("y: 0}\n  sky", "y: 0, z: 1}\n  sky"), r"pixels\.road\.z: is no key here; a pixel has image, x and y"),
    ],
)
def test_a_wrong_file_names_class_and_value(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_pixels(write(tmp_path, GOOD.replace(*change)), TAXONOMY, "two")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image: a, x: 0", "image: b, x: 0"), "sky: no frame 'b' in split 'train' of two; it has 1: a to a"),
        (("image: a, x: 0", "image: A, x: 0"), "sky: no frame 'A' in split 'train' of two; did you mean 'a'; it has 1"),
        (("x: 0", "x: 1"), "sky: x=1, y=0 of a is the pixel of road; each class needs its own"),
        (("x: 1", "x: 2"), "road: x=2, y=0 lies outside a, which is 2 wide and 1 high"),
    ],
)
def test_a_pixel_must_lie_in_a_frame(tmp_path, change, message):
    source = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(InputError, match=message):
        check_pixels(load_pixels(source, TAXONOMY, "two"), TwoPixels(), source)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "pixels.yaml").write_bytes(b"dataset: caf\xe9")
    with pytest.raises(InputError, match=r"pixels\.yaml is not UTF-8: .* at byte 12"):
        load_pixels(str(tmp_path / "pixels.yaml"), TAXONOMY, "two")


def test_a_pixel_that_disagrees_with_the_truth_is_a_warning(tmp_path):
    source = write(tmp_path, GOOD.replace("x: 0", "x: 2").replace("x: 1", "x: 0").replace("x: 2", "x: 1"))
    warnings = check_pixels(load_pixels(source, TAXONOMY, "two"), TwoPixels(), source)
    assert len(warnings) == 2 and "road: the true label at x=0, y=0 of a is sky" in warnings[0]


def shipped(dataset):
    """Return the names of a data set's shipped pixel files: `camvid`, `camvid-2`, ..."""
    return sorted(path.name.removesuffix(".yaml") for path in PIXEL_FILES.iterdir() if path.name.startswith(dataset))


@pytest.fixture(scope="module")
def streets():
    return Streets("train")


def test_each_data_set_that_is_measured_has_three_files():
    assert shipped("streets") == ["streets", "streets-2", "streets-3"]
    assert shipped("camvid") == ["camvid", "camvid-2", "camvid-3"]


@pytest.mark.parametrize("source", shipped("streets"))
def test_the_shipped_streets_pixels_agree_with_the_truth(streets, source):
    pixels = load_pixels(source, CITYSCAPES, "streets")
    assert check_pixels(pixels, streets, source) == []
    assert len(pixels.frame_ids) <= 5


@pytest.mark.parametrize(("dataset", "taxonomy"), [("streets", CITYSCAPES), ("camvid", CAMVID)])
def test_no_frame_is_annotated_in_two_files(dataset, taxonomy):
    frames = [frame for source in shipped(dataset) for frame in load_pixels(source, taxonomy, dataset).frame_ids]
    assert len(set(frames)) == len(frames)


def test_the_cityscapes_template_names_every_class():
    assert set(load_pixels("cityscapes", CITYSCAPES, "cityscapes").pixels) == set(CITYSCAPES.names)


@pytest.mark.skipif(not CAMVID_ROOT.exists(), reason=f"needs CamVid in {CAMVID_ROOT}")
@pytest.mark.parametrize("source", shipped("camvid"))
def test_the_shipped_camvid_pixels_agree_with_the_truth(source):
    pixels = load_pixels(source, CAMVID, "camvid")
    assert check_pixels(pixels, CamVid(CAMVID_ROOT, "train"), source) == []
    assert len(pixels.frame_ids) <= 5
