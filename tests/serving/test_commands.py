"""The commands as a person runs them: a server process, and files in and out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from serving import commands
from serving.__main__ import main
from serving.client import Client
from serving.frames import Pixels, decode_image, encode_jpeg, encode_png
from serving.model import Model
from serving.segment_files import overlay, segment_video
from serving.server import Server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def process(model_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "serving", "serve", "--model", str(model_path), "--address", "127.0.0.1:0"]
    options = ["--metrics-address", "127.0.0.1:0", "--name", "streets", "--threads", "1", "--json"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_serve_takes_the_shipped_model_where_none_is_given(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "__file__", str(tmp_path / "serving" / "commands.py"))
    monkeypatch.chdir(tmp_path)
    result = run("serve", "--address", "127.0.0.1:0")
    assert result.exit_code == 2 and "--model: none is given, and model_store" in result.output
    (tmp_path / commands.SHIPPED_MODEL).parent.mkdir(parents=True)
    shutil.copy(model_path, tmp_path / commands.SHIPPED_MODEL)
    assert commands._shipped_model() == tmp_path / commands.SHIPPED_MODEL


def test_serve_says_where_and_segment_finds_it(
    process: tuple[subprocess.Popen[str], dict[str, str]], model: Model, frame: Pixels, tmp_path: Path
) -> None:
    _, ready = process
    assert ready.keys() == {"address", "metrics_address", "models"}
    assert ready["models"] == [{"name": "streets", "version": "1", "digest": model.digest}]
    with urllib.request.urlopen(f"http://{ready['metrics_address']}/metrics") as response:
        assert f'onepixel_model{{digest="{model.digest}",model="streets",version="1"}} 1.0' in response.read().decode()
    image = tmp_path / "frame.png"
    image.write_bytes(encode_png(frame))
    out = tmp_path / "new" / "out"
    result = run("segment", image, "--server", ready["address"], "--out", out, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["frames"], summary["failed"], summary["failures"]) == (1, 0, [])
    assert summary["model_name"] == "streets" and summary["seconds"] >= 0
    mask = cv2.imread(str(out / "frame.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, model.segment(frame)[0])
    painted = decode_image((out / "frame_overlay.png").read_bytes())
    palette = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])
    assert np.abs(painted - (0.5 * frame + 0.5 * palette[mask])).max() <= 1
    assert sorted(path.name for path in out.iterdir()) == ["frame.png", "frame_overlay.png"]


def test_sigterm_drains_and_exits_well(process: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    served, _ = process
    os.kill(served.pid, signal.SIGTERM)
    assert served.wait(10) == 0
    assert served.stdout is not None and served.stdout.read() == ""
    assert served.stderr is not None
    log = served.stderr.read()
    assert "draining" in log and '"threads":1,' in log


def test_a_folder_goes_on_after_bad_files(server: Server, frame: Pixels, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "b.png").write_bytes(encode_png(frame))
    (source / "a.jpg").write_bytes(encode_jpeg(frame)[:300])
    (source / "c.JPG").write_bytes(encode_jpeg(frame))
    (source / "d.png").write_bytes(b"")
    (source / "notes.txt").write_text("not an image, not asked for")
    result = run("segment", source, "--server", server.address, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "failed: a.jpg: INVALID_ARGUMENT: image: the JPEG" in result.stderr
    assert "failed: d.png: INVALID_ARGUMENT: image: 0 bytes" in result.stderr
    assert result.stdout.splitlines()[:2] == ["frames         4", "failed         2"]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["b.png", "b_overlay.png", "c.png", "c_overlay.png"]


def test_a_video_is_streamed(server: Server, model: Model, tmp_path: Path) -> None:
    video = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)] * 8  # BGR: more frames than the server holds at once
    for colour in colours:
        writer.write(np.full((48, 64, 3), colour, np.uint8))
    writer.release()
    out = tmp_path / "out"
    result = run("segment", video, "--server", server.address, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 24
    for number, colour in enumerate(colours, start=1):
        mask = decode_image((out / f"drive_{number:06d}.png").read_bytes())
        assert np.all(mask == 2 - int(np.argmax(colour)))
    assert len(list(out.iterdir())) == 25
    capture = cv2.VideoCapture(str(out / "drive_overlay.mp4"))
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape)
    assert shapes == [(48, 64, 3)] * 24


@pytest.mark.parametrize(
    ("suffix", "part", "told"), [(".avi", 8, r"after \d+ of 24 frames"), (".mkv", 5, r"after \d+ of \d+ bytes")]
)
def test_a_video_that_is_cut_off_is_no_success(
    server: Server, tmp_path: Path, suffix: str, part: int, told: str
) -> None:
    video = tmp_path / f"drive{suffix}"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for shade in range(24):
        writer.write(np.full((48, 64, 3), 10 * shade, np.uint8))
    writer.release()
    whole = run("segment", video, "--server", server.address, "--out", tmp_path / "out")
    assert whole.exit_code == 0, whole.stderr
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * part // 10])
    result = run("segment", video, "--server", server.address, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert re.search(f"ends {told}; is it a whole video file", result.stderr)


def test_a_stream_that_ends_leaves_the_video_to_its_reader(
    client: Client, frame: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV crashes where one thread closes a video, or asks about it, while another reads it."""
    reading, overlaps, released = threading.Event(), [], threading.Event()
    third = threading.Event()

    class SlowCapture:
        count = 0

        def __init__(self, _: str) -> None:
            pass

        def read(self) -> tuple[bool, Pixels]:
            overlaps.extend(["read after release"] if released.is_set() else [])
            reading.set()
            self.count += 1
            if self.count == 3:
                third.set()
                time.sleep(0.3)
            reading.clear()
            return True, frame

        def get(self, _: int) -> float:
            overlaps.extend(["get after the first read"] if self.count else [])
            return 10.0

        def release(self) -> None:
            overlaps.extend(["release during a read"] if reading.is_set() else [])
            released.set()

    monkeypatch.setattr(cv2, "VideoCapture", SlowCapture)
    results = segment_video(client, tmp_path / "drive.avi", tmp_path / "out")
    assert next(results).failure is None
    assert third.wait(5)
    results.close()  # as where the server dies, the disk is full, or Ctrl-C comes
    time.sleep(0.1)
    assert released.is_set() and overlaps == []


def test_what_a_user_can_mend_exits_2(server: Server, frame: Pixels, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.png").write_bytes(encode_png(frame))
    empty = tmp_path / "empty"
    empty.mkdir()
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a.png", "a.jpg"):
        (twice / name).write_bytes(b"x")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    for arguments, message in (
        ((tmp_path / "none", "--out", tmp_path / "out"), "no such file or folder"),
        ((empty, "--out", tmp_path / "out"), "no image in this folder; looked for .jpeg, .jpg, .png, .webp"),
        ((source, "--out", source), "is the folder of the images, which the masks would overwrite"),
        ((twice, "--out", tmp_path / "out"), "would both be written to a.png"),
        ((broken, "--out", tmp_path / "out"), "no frame can be decoded"),
    ):
        result = run("segment", *arguments, "--server", server.address)
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert result.stderr.startswith("error: ") and result.stdout == ""
        # What is wrong here is told whether or not a server is there.
        assert run("segment", *arguments, "--server", "127.0.0.1:1").stderr == result.stderr
    (tmp_path / "token").write_text("\n")
    result = run("segment", source, "--out", tmp_path / "out", "--token-file", tmp_path / "token")
    assert result.exit_code == 2 and f"--token-file: {tmp_path / 'token'} is empty" in result.stderr
    assert not (tmp_path / "out").exists()
    result = run("serve", "--model", tmp_path / "none.onnx")
    assert result.exit_code == 2 and "none.onnx: cannot be read" in result.stderr


def test_serve_errors_exit_2(server: Server, model_path: Path) -> None:
    command = ("serve", "--model", model_path, "--metrics-address", "")
    result = run(*command, "--address", server.address)
    assert result.exit_code == 2 and "is the port in use," in result.stderr
    result = run(*command, "--set", "limits.place=4")
    assert result.exit_code == 2 and "unknown key 'limits.place'; did you mean 'limits.places'?" in result.stderr
    result = run(*command, "--set", "security.certificate=a.pem")
    assert result.exit_code == 2 and "certificate and private_key belong together" in result.stderr
    result = run("serve", "--model", model_path, "--address", "127.0.0.1:0", "--metrics-address", server.address)
    assert result.exit_code == 2 and f"metrics_address: cannot listen at '{server.address}'" in result.stderr
    result = run("serve", "--model", "camvid@champion")
    assert result.exit_code == 2 and "a registered model is models:/camvid@champion" in result.stderr


def test_a_server_that_is_not_there_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.commands.PATIENCE", 0.2)
    (tmp_path / "a.png").write_bytes(b"any")
    result = run("segment", tmp_path / "a.png", "--server", "127.0.0.1:1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr == "error: --server: no server answers at 127.0.0.1:1 within 0.2 s: nobody listens there\n"
    assert not (tmp_path / "out").exists()


def test_an_overlay_by_hand() -> None:
    frame = np.full((1, 2, 3), 100, np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[7] = (200, 0, 50)
    painted = overlay(frame, np.array([[7, 0]], np.uint8), palette)
    assert painted.tolist() == [[[150, 50, 75], [50, 50, 50]]]
