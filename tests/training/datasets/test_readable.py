import logging

import numpy as np
import pytest

from serving.errors import InputError
from tests.training.evaluation.frames import write_configuration, write_frames
from training.configuration import load_settings
from training.datasets import evenly_spaced, open_dataset


@pytest.fixture
def settings(tmp_path):
    write_frames(tmp_path / "frames", [0, 1, 2, 0])
    configuration = write_configuration(tmp_path / "mine.yaml", tmp_path / "frames", unreadable="skip")
    return load_settings(configuration).dataset


def damage(root, number):
    path = root / "val" / "images" / f"frame{number}.png"
    path.write_bytes(path.read_bytes()[:40])


def test_where_all_can_be_read_nothing_changes(settings):
    plain = open_dataset(settings.model_copy(update={"unreadable": "stop"}), "val")
    readable = open_dataset(settings, "val")
    assert tuple(readable.frame_ids) == tuple(plain.frame_ids) and readable.unreadable == plain.unreadable == ()
    assert readable.digest() == plain.digest() and len(readable) == 4 and readable.has_labels
    assert np.array_equal(readable.labels("frame2"), plain.labels("frame2"))
    assert readable.encoded("frame2") == plain.encoded("frame2")


def test_an_unreadable_frame_is_left_out_and_named(settings, caplog):
    damage(settings.root, 1)
    dataset = open_dataset(settings, "val")
    with caplog.at_level(logging.WARNING):
        assert dataset.frame_ids == ("frame0", "frame2", "frame3") and len(dataset) == 3
    assert dataset.unreadable == ("frame1",)
    assert "frame 'frame1' is left out" in caplog.text and "frame1.png: image: the PNG is truncated" in caplog.text
    assert evenly_spaced(dataset.frame_ids, 2) == ["frame0", "frame3"]
    assert len(dataset.digest()) == 64
    assert len(caplog.records) == 1
    with pytest.raises(InputError, match=r"frame1\.png"):
        dataset.frame("frame1")


def test_a_split_without_one_readable_frame_is_an_error(settings):
    for number in range(4):
        damage(settings.root, number)
    with pytest.raises(InputError, match=r"split 'val': no frame can be read; the first: .*frame0\.png"):
        len(open_dataset(settings, "val"))
