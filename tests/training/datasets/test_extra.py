"""A split with frames that nobody has labelled."""

import numpy as np
import pytest

from serving.errors import InputError
from serving.frames import encode_png
from training.datasets import open_dataset
from training.datasets.streets import Streets
from training.settings import DatasetSettings


@pytest.fixture
def folder(tmp_path):
    frames = Streets("val", size=(32, 64), train_frames=6)
    for number, place in enumerate(("a.png", "deep/er/a.png", "deep/b.PNG")):
        path = tmp_path / "new" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(frames.frame(frames.frame_ids[number])))
    (tmp_path / "new" / "deep" / "again.png").write_bytes((tmp_path / "new" / "a.png").read_bytes())
    (tmp_path / "new" / ".half.png").write_bytes(b"being written")
    (tmp_path / "new" / "notes.txt").write_text("no image")
    return tmp_path / "new"


def settings(folder, **others):
    return DatasetSettings(name="streets", size=(32, 64), frames=4, extra=folder, **others)


def test_new_frames_follow_the_splits_own_each_content_once(folder):
    split = open_dataset(settings(folder), "train")
    own = Streets("train", size=(32, 64), train_frames=4)
    assert split.frame_ids[:4] == own.frame_ids and len(split) == 4 + 3
    assert all(frame_id.startswith("extra_") for frame_id in split.frame_ids[4:])
    assert split.digest() != own.digest()


def test_nobody_counts_their_labels(folder):
    split = open_dataset(settings(folder), "train")
    assert split.has_labels and split.labelled_ids == split.frame_ids[:4]
    new = split.frame_ids[-1]
    assert split.frame(new).shape == (32, 64, 3)
    assert np.unique(split.labels(new)).tolist() == [255]
    assert np.unique(split.labels(split.frame_ids[0])).min() < 255
    assert split.encoded(new) is not None and split.encoded(split.frame_ids[0]) is None
    assert split.labels_digest() != open_dataset(settings(None), "train").labels_digest()


def test_other_splits_stay_as_they_are(folder):
    assert len(open_dataset(settings(folder), "val")) == 2


def test_a_new_frame_that_cannot_be_read_is_named_or_left_out(folder):
    (folder / "broken.png").write_bytes(b"no picture")
    split = open_dataset(settings(folder), "train")
    broken = [frame_id for frame_id in split.frame_ids[4:] if split.encoded(frame_id) == b"no picture"]
    with pytest.raises(InputError, match=r"new/broken\.png"):
        split.frame(broken[0])
    readable = open_dataset(settings(folder, unreadable="skip"), "train")
    assert len(readable) == 7 and readable.labelled_ids == readable.frame_ids[:4]


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), ("empty", "holds no image")])
def test_a_folder_without_images_is_told(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}: {message}"):
        open_dataset(settings(tmp_path / name), "train")
