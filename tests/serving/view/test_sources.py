from pathlib import Path

import cv2
import numpy as np
import pytest

from serving.errors import InputError
from serving.view.sources import Camera, Captured, Images, Video, open_source


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four frames at 12.5 per second: white, black, white, black."""
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    for value in (255, 0, 255, 0):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return path


def test_a_folder_is_listed_by_name_and_anew_each_time(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    source = open_source(str(folder))
    assert isinstance(source, Images) and source.rate == 10
    assert list(source.frames()) == [Captured(path.name, path.read_bytes()) for path in sorted(folder.glob("*.png"))]
    (folder / "green.png").unlink()
    (folder / "apple.JPG").write_bytes(b"as it is")
    assert [captured.name for captured in source.frames()] == ["apple.JPG", "blue.png", "red.png"]


def test_one_image_is_a_source(folder: Path) -> None:
    assert [captured.name for captured in open_source(str(folder / "red.png")).frames()] == ["red.png"]


def test_a_video_keeps_its_rate_and_starts_again(video: Path) -> None:
    source = open_source(str(video))
    assert isinstance(source, Video) and source.rate == 12.5
    for _ in range(2):
        frames = list(source.frames())
        assert [captured.name for captured in frames] == ["frame 1", "frame 2", "frame 3", "frame 4"]
        assert [int(np.mean(np.asarray(captured.image)) > 128) for captured in frames] == [1, 0, 1, 0]


def test_pixels_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order
    writer.release()
    (captured,) = Video(path).frames()
    pixels = np.asarray(captured.image)
    assert pixels.dtype == np.uint8 and pixels[..., 0].min() > 240 and pixels[..., 1:].max() < 15


def test_a_stream_that_ends_says_so_and_is_opened_again(video: Path) -> None:
    source = open_source(video.as_uri())
    assert isinstance(source, Camera) and source.rate is None
    for _ in range(2):
        frames = source.frames()
        assert [next(frames).name for _ in range(4)] == ["frame 1", "frame 2", "frame 3", "frame 4"]
        with pytest.raises(InputError, match=r"drive\.avi: gives no more frames"):
            next(frames)


def test_what_is_no_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a video")
    for text, message in (
        (str(tmp_path / "none"), "no such folder or file; a camera is a number such as 0, or a URL"),
        (str(tmp_path), "no image in this folder; looked for .jpeg, .jpg, .png, .webp"),
        (str(tmp_path / "notes.txt"), "no frame can be decoded; is it a whole video file?"),
        ("99", "camera 99: OpenCV cannot open it; is it there"),
    ):
        with pytest.raises(InputError) as raised:
            open_source(text)
        assert message in str(raised.value)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(InputError) as raised:
        open_source("rtsp://user:secret@127.0.0.1:1/street")
    assert str(raised.value).startswith("rtsp://127.0.0.1:1/street: OpenCV cannot open it")
