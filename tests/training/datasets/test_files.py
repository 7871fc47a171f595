"""What the registry does, and the real CamVid where it is at hand."""

from pathlib import Path

import numpy as np
import pytest

from serving.errors import InputError
from serving.frames import encode_png
from training.datasets import evenly_spaced, open_dataset
from training.datasets.base import check_labels
from training.datasets.cityscapes import LABEL_IDS, TRAIN_ID_TO_LABEL_ID, TRAIN_IDS
from training.settings import DatasetSettings
from training.taxonomy import CAMVID, CITYSCAPES, IGNORED

CAMVID_ROOT = Path("../shared/data/camvid")


def test_evenly_spaced_takes_every_fourth_of_camvid():
    assert evenly_spaced(range(367), 92) == list(range(0, 367, 4))


@pytest.mark.parametrize("limit", [1, 2, 7, 9, 10, 11, None])
def test_evenly_spaced_takes_as_many_as_asked_in_order(limit):
    taken = evenly_spaced("abcdefghij", limit)
    assert len(taken) == min(limit or 10, 10)
    assert taken == sorted(set(taken))
    assert taken[0] == "a"


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "folder"])
def test_a_root_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*no such folder"):
        open_dataset(DatasetSettings(name=name, root=tmp_path / "nowhere"), "train")


def test_cityscapes_tables_are_inverse():
    assert len(LABEL_IDS) == 35
    assert TRAIN_IDS[-1] == IGNORED
    assert sorted(TRAIN_ID_TO_LABEL_ID) == list(range(19))
    for train_id, label_id in TRAIN_ID_TO_LABEL_ID.items():
        assert TRAIN_IDS[label_id] == train_id
        assert (CITYSCAPES.names[train_id], label_id) in LABEL_IDS


def test_check_labels_names_source_and_value():
    good = np.array([[0, 10, IGNORED], [1, 2, 3]], np.uint8)
    assert check_labels(good, (2, 3), CAMVID, "here") is good
    with pytest.raises(InputError, match="here: label value 11 "):
        check_labels(good + np.uint8(1), (2, 3), CAMVID, "here")
    with pytest.raises(InputError, match="here: labels are 3 x 2"):
        check_labels(good.T, (2, 3), CAMVID, "here")


def test_labels_need_no_more_of_their_frame_than_its_header(tmp_path):
    for kind, pixels in (("images", np.zeros((40, 50, 3), np.uint8)), ("labels", np.ones((40, 50), np.uint8))):
        (tmp_path / "val" / kind).mkdir(parents=True)
        (tmp_path / "val" / kind / "a.png").write_bytes(encode_png(pixels))
    frame = tmp_path / "val" / "images" / "a.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:45] + bytes(4) + whole[49:])
    dataset = open_dataset(DatasetSettings(name="folder", root=tmp_path, taxonomy="camvid"), "val")
    assert np.array_equal(dataset.labels("a"), np.ones((40, 50)))
    with pytest.raises(InputError, match=r"images/a\.png: "):
        dataset.frame("a")
    frame.write_bytes(whole[:10])
    with pytest.raises(InputError, match=r"images/a\.png: "):
        dataset.labels("a")


@pytest.mark.skipif(not CAMVID_ROOT.is_dir(), reason=f"{CAMVID_ROOT} is not here: the real CamVid is not redistributed")
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_real_camvid(split, count):
    dataset = open_dataset(DatasetSettings(name="camvid", root=CAMVID_ROOT), split)
    assert len(dataset) == count
    for frame_id in evenly_spaced(dataset.frame_ids, 5):
        assert dataset.frame(frame_id).shape == (360, 480, 3)
        assert set(np.unique(dataset.labels(frame_id))) <= {*range(11), IGNORED}
