"""Frames that are kept: which, how many, and what a frame costs that cannot be."""

import hashlib
import shutil
import stat

import numpy as np
import pytest
from onepixel.v1 import segmentation_pb2 as pb
from prometheus_client import CollectorRegistry

from serving.batching import Inference
from serving.client import Client
from serving.collect import Collector, uncertainty
from serving.errors import InputError
from serving.frames import decode_image, encode_png
from serving.observers import Seen
from serving.server import Server
from serving.settings import CollectSettings


def collector(folder, **settings):
    return Collector(CollectSettings(folder=folder, seconds=0, **settings), CollectorRegistry())


def seen(model, value, size=8):
    """A frame that the model is as sure of as `value` of 255 says."""
    frame = np.full((size, size, 3), value, np.uint8)
    content = encode_png(frame)
    inference = Inference(np.zeros((2, 2), np.uint8), np.full((2, 2), value, np.uint8), 0, 0, 1)
    message = pb.Frame(encoded=pb.EncodedImage(data=content))
    return Seen(model, frame, inference, lambda: frame, message)


def test_the_frames_are_kept_of_which_the_model_is_least_sure(model, tmp_path):
    keeps = collector(tmp_path, limit=2)
    for value in (255, 51, 102, 204, 51):  # the last one is there already
        keeps.look(seen(model, value))
    kept = sorted(tmp_path.iterdir())
    assert [path.name.split("-")[0] for path in kept] == ["0.600000", "0.800000"]
    assert decode_image(kept[1].read_bytes())[0, 0, 0] == 51
    assert kept[1].stem.endswith(hashlib.sha256(kept[1].read_bytes()).hexdigest()[:12])
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)


def test_a_server_that_starts_anew_goes_on_with_the_folder(model, tmp_path):
    collector(tmp_path, limit=2).look(seen(model, 51))
    (tmp_path / "README").write_text("somebody's")
    again = collector(tmp_path, limit=2)
    for value in (102, 204):
        again.look(seen(model, value))
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["0.600000", "0.800000", "README"]


def test_whoever_takes_the_frames_makes_room_for_others(model, tmp_path):
    folder = tmp_path / "frames"
    keeps = collector(folder, limit=1)
    keeps.look(seen(model, 51))
    shutil.rmtree(folder)
    keeps.look(seen(model, 204))
    assert [path.name.split("-")[0] for path in folder.iterdir()] == ["0.200000"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_start_keeps_to_the_limit_and_takes_away_what_was_half_written(model, tmp_path):
    keeps = collector(tmp_path)
    for value in (51, 102, 204):
        keeps.look(seen(model, value))
    kept = max(tmp_path.iterdir())
    kept.with_name(f".{kept.stem}.part{kept.suffix}").write_bytes(b"half")
    collector(tmp_path, limit=1)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_frame_that_would_have_to_go_at_once_is_not_written(model, tmp_path):
    size = len(encode_png(np.full((8, 8, 3), 9, np.uint8)))
    keeps = collector(tmp_path, limit_bytes=size)
    keeps.look(seen(model, 51))
    before = tmp_path.stat().st_mtime_ns
    keeps.look(seen(model, 102))
    assert tmp_path.stat().st_mtime_ns == before and keeps._frames.labels("passed_over")._value.get() == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_bytes_are_bounded_too(model, tmp_path):
    size = len(encode_png(np.full((8, 8, 3), 9, np.uint8)))
    keeps = collector(tmp_path, limit_bytes=2 * size + 10)
    for value in range(1, 40):
        keeps.look(seen(model, value))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * size + 10
    assert len(list(tmp_path.iterdir())) == 2


def test_a_uniform_sample_does_not_ask_how_sure_the_model_is(model, tmp_path):
    keeps = collector(tmp_path, policy="uniform", limit=20)
    for value in range(1, 200):
        keeps.look(seen(model, value))
    values = sorted(int(decode_image(path.read_bytes())[0, 0, 0]) for path in tmp_path.iterdir())
    assert len(values) == 20 and values[0] < 60 and values[-1] > 140  # fails once in 10,000 runs


def test_a_frame_that_came_as_pixels_is_kept_as_png(model, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    inference = Inference(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 0, 0, 1)
    collector(tmp_path).look(Seen(model, frame, inference, lambda: frame, None))
    np.testing.assert_array_equal(decode_image(next(tmp_path.glob("*.png")).read_bytes()), frame)


def test_uncertainty_is_what_the_best_classes_lack():
    assert uncertainty(np.array([[255, 0]], np.uint8)) == 0.5


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"collect\.folder: .*file/new cannot be made"):
        collector(tmp_path / "file" / "new")


def test_a_server_keeps_the_bytes_that_a_client_sent(model, tmp_path, frame):
    server = Server(model)
    server.observe(Collector(CollectSettings(folder=tmp_path, seconds=0), server.metrics.registry))
    server.start()
    sent = encode_png(frame)
    with Client(server.address) as client:
        client.segment(sent)
    server.stop(grace=1)
    assert [path.read_bytes() for path in tmp_path.glob("*.png")] == [sent]
