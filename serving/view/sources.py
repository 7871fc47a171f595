"""Where the live view's frames come from: a folder of images, a video file, or a camera.

A source says how fast its frames are due and yields them one after another; the pace is kept by `serving.view.feed`.
Each is read by one thread only, since OpenCV crashes where one thread closes what another reads.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from serving.addresses import without_password
from serving.errors import InputError
from serving.frames import Pixels
from serving.segment_files import IMAGE_SUFFIXES

FOLDER_RATE = 10.0
"""Images of a folder per second, which say nothing about time."""
VIDEO_RATE = 25.0
"""Frames per second of a video that does not say, or not credibly."""
MAX_RATE = 240.0
"""Frames per second of a credible video; some containers give their clock's ticks instead."""
STREAM_PATIENCE_MS = 5000
"""What a network camera may take to open, and for a frame."""


@dataclass(frozen=True)
class Captured:
    """One frame as it came."""

    name: str
    """The image's file name, or the frame's number."""
    image: Pixels | bytes
    """uint8 [H, W, 3] RGB, or an image file's bytes."""


class Source(Protocol):
    """What gives frames."""

    name: str
    """What it is called where people read: as it was given, a URL without its user and password."""
    rate: float | None
    """Frames per second that are due; None where they come by themselves and have to be read as they do."""

    def frames(self) -> Generator[Captured, None, None]:
        """Yield the frames once through; a camera's have no end.

        Raises
        ------
        InputError
            If there are none, or no more; a later call may find some again.
        """


def open_source(text: str) -> Source:
    """Open a folder, an image, a video, a camera's number, or the URL of a stream such as rtsp://HOST/PATH.

    Raises
    ------
    InputError
        If it is none of them, or gives no frame.
    """
    if text.isdecimal():
        return Camera(int(text))
    if "://" in text:
        return Camera(text)
    path = Path(text)
    if not path.exists():
        raise InputError(
            f"{text}: no such folder or file; a camera is a number such as 0, or a URL such as rtsp://HOST"
        )
    return Images(path) if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES else Video(path)


class Images:
    """A folder's images by name, listed anew each time through; or one image."""

    rate: float | None = FOLDER_RATE

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        self._find()

    def frames(self) -> Generator[Captured, None, None]:
        """Yield the files' bytes; what is wrong in them is for the server to say."""
        for path in self._find():
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # removed since it was listed
            except OSError as error:
                raise InputError(f"{path}: cannot be read: {error.strerror}") from error
            yield Captured(path.name, data)

    def _find(self) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        try:
            images = sorted(path for path in self._path.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror}") from error
        if not images:
            looked_for = ", ".join(sorted(IMAGE_SUFFIXES))
            raise InputError(f"{self._path}: no image in this folder; looked for {looked_for}")
        return images


class Video:
    """A video file."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        capture = cv2.VideoCapture(str(path))
        rate, readable = capture.get(cv2.CAP_PROP_FPS), capture.read()[0]
        capture.release()
        if not readable:
            raise InputError(f"{path}: no frame can be decoded; is it a whole video file?")
        self.rate: float | None = rate if 0 < rate <= MAX_RATE else VIDEO_RATE

    def frames(self) -> Generator[Captured, None, None]:
        """Yield its frames from the first."""
        capture = cv2.VideoCapture(str(self._path))
        try:
            number = 0
            for number, image in enumerate(_read_all(capture), start=1):
                yield Captured(f"frame {number}", image)
            if not number:
                raise InputError(f"{self._path}: no frame can be decoded any more")
        finally:
            capture.release()


class Camera:
    """A camera by its number, or a stream by its URL."""

    rate: float | None = None

    def __init__(self, which: int | str) -> None:
        self.name = f"camera {which}" if isinstance(which, int) else without_password(which)
        self._which = which
        self._capture: cv2.VideoCapture | None = self._open()

    def frames(self) -> Generator[Captured, None, None]:
        """Yield frames as they come."""
        capture, self._capture = self._capture or self._open(), None
        try:
            for number, image in enumerate(_read_all(capture), start=1):
                yield Captured(f"frame {number}", image)
            raise InputError(f"{self.name}: gives no more frames")
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        if isinstance(self._which, int):
            capture = cv2.VideoCapture(self._which)
        else:
            patience = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
            parameters = [value for each in patience for value in (each, STREAM_PATIENCE_MS)]
            capture = cv2.VideoCapture(self._which, cv2.CAP_FFMPEG, parameters)
        if not capture.isOpened():
            raise InputError(f"{self.name}: OpenCV cannot open it; is it there, and used by nobody else?")
        return capture


def _read_all(capture: cv2.VideoCapture) -> Iterator[Pixels]:
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
