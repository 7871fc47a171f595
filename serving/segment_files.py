"""Images and videos through a server to mask and overlay files.

Every file is written under another name first and renamed when whole, so that what has its name is complete.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from serving.client import Client, ServerError
from serving.errors import InputError
from serving.files import whole_file
from serving.frames import Pixels, decode_image, encode_png
from serving.masks import MaskEncoding
from serving.wire import SegmentOptions

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
COUNTED_SUFFIXES = frozenset({".avi", ".m4v", ".mov", ".mp4"})
"""Of videos that hold the number of their frames; of others OpenCV tells an estimate."""

_OPTIONS = SegmentOptions(mask_encoding=MaskEncoding.RLE)


@dataclass(frozen=True)
class Result:
    """What became of one frame."""

    name: str
    """The image's file name, or the frame's number in its video."""
    failure: str | None = None
    """Why there is no mask, with the server's status where it is the server's."""


def overlay(frame: Pixels, mask: Pixels, palette: Pixels) -> Pixels:
    """Lay a mask's colours over its frame, half and half.

    Parameters
    ----------
    frame
        uint8 [H, W, 3] RGB.
    mask
        uint8 [H, W].
    palette
        uint8 [256, 3] RGB by mask value.

    Returns
    -------
    uint8 [H, W, 3] RGB.
    """
    return np.asarray(cv2.addWeighted(frame, 0.5, palette[mask], 0.5, 0.0), np.uint8)


def find_images(source: Path, out: Path) -> list[Path]:
    """Return an image file itself, or a folder's images by name.

    Raises
    ------
    InputError
        If there is nothing, or the results in `out` would overwrite each other or the images.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    images = [source]
    if source.is_dir():
        images = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not images:
            raise InputError(f"{source}: no image in this folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    if out.resolve() == images[0].resolve().parent:
        raise InputError(f"--out: {out} is the folder of the images, which the masks would overwrite; name another")
    by_result: dict[str, Path] = {}
    for image in images:
        for name in (_mask_name(image.stem), _overlay_name(image.stem)):
            if name in by_result:
                raise InputError(f"{image} and {by_result[name]} would both be written to {name}; rename one")
            by_result[name] = image
    return images


def count_frames(video: Path) -> int:
    """Return how many frames a video says it has; 0 if it does not say.

    Raises
    ------
    InputError
        If none can be decoded.
    """
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.grab():
            raise InputError(f"{video}: no frame can be decoded; is it a whole video file?")
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def segment_images(client: Client, images: Sequence[Path], out: Path) -> Iterator[Result]:
    """Segment images one by one and write `<stem>.png` and `<stem>_overlay.png` under `out`.

    Yields
    ------
    The result of each; a bad image does not end it.
    """
    palette = client.model_info().palette
    for image in images:
        try:
            data = image.read_bytes()
            answer = client.segment(data, _OPTIONS)
            frame = decode_image(data, max_pixels=answer.mask.size)
        except (ServerError, InputError) as error:
            yield Result(image.name, str(error))
            continue
        except OSError as error:
            yield Result(image.name, f"cannot be read: {error.strerror}")
            continue
        _write(out / _mask_name(image.stem), encode_png(answer.mask))
        _write(out / _overlay_name(image.stem), encode_png(overlay(frame, answer.mask, palette)))
        yield Result(image.name)


def segment_video(client: Client, video: Path, out: Path) -> Iterator[Result]:
    """Stream a video's frames; write `<stem>_000001.png` and so on, and `<stem>_overlay.mp4`, under `out`.

    Yields
    ------
    The result of each frame; one without a mask is in the overlay as it was. A video that ends before the last frame,
    or the last byte, that it announces has a result of its own.

    Raises
    ------
    InputError
        If the video cannot be read, or the overlay not be written.
    ServerError
        If the server ends the stream.
    """
    palette = client.model_info().palette
    capture = cv2.VideoCapture(str(video))
    rate = capture.get(cv2.CAP_PROP_FPS)
    sent: deque[Pixels] = deque()
    # The frames are read on gRPC's thread, which may be amid one when this one ends; OpenCV crashes where both meet.
    lock = threading.Lock()
    closed = False

    def frames() -> Iterator[Pixels]:
        while True:
            with lock:
                if closed:
                    return
                read, frame = capture.read()
            if not read:
                return
            sent.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
            yield sent[-1]

    writer: cv2.VideoWriter | None = None
    decoded = 0
    with whole_file(out / f"{video.stem}_overlay.mp4") as partial:
        try:
            for outcome in client.stream(frames(), _OPTIONS):
                frame = sent.popleft()
                decoded += 1
                writer = writer or _open_writer(partial, rate, frame)
                name = f"{video.stem}_{outcome.sequence + 1:06d}"
                if outcome.segmentation is not None:
                    _write(out / f"{name}.png", encode_png(outcome.segmentation.mask))
                    frame = overlay(frame, outcome.segmentation.mask, palette)
                writer.write(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)))
                yield Result(name, None if outcome.segmentation is not None else str(outcome.error))
            if writer is None:
                raise InputError(f"{video}: no frame can be decoded; is it a whole video file?")
            with lock:
                announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if reached := _reached(video, decoded, announced):
                yield Result(video.name, f"ends after {reached}; is it a whole video file?")
        finally:
            with lock:
                closed = True
                capture.release()
            if writer is not None:
                writer.release()


def _reached(video: Path, decoded: int, announced: int) -> str | None:
    """Say how far a video got that has ended too early; None where it has not, or nobody can tell."""
    if video.suffix.lower() in COUNTED_SUFFIXES:
        return f"{decoded} of {announced} frames" if decoded < announced else None
    size, whole = video.stat().st_size, matroska_size(video)
    return f"{size} of {whole} bytes" if whole is not None and size < whole else None


def matroska_size(video: Path) -> int | None:
    """Return how many bytes a Matroska or WebM file should have; None where it is none, or does not say (a live one).

    It is one header and one segment, each with its identifier of four bytes and its length, a number whose first byte's
    leading zeros tell how many bytes it has (RFC 8794, sections 4 and 5).
    """
    with video.open("rb") as file:
        for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
            if file.read(4) != identifier:
                return None
            first = file.read(1)[0]
            more = 8 - first.bit_length()
            bits = 7 * (more + 1)
            length = int.from_bytes(bytes([first]) + file.read(more)) & (1 << bits) - 1
            if length == (1 << bits) - 1:
                return None
            file.seek(length, os.SEEK_CUR)
        return file.tell()


def _open_writer(path: Path, rate: float, frame: Pixels) -> cv2.VideoWriter:
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate or 25.0, (width, height))
    if not writer.isOpened():
        raise InputError(f"{path}: OpenCV cannot write an MPEG-4 video here")
    return writer


def _mask_name(stem: str) -> str:
    return f"{stem}.png"


def _overlay_name(stem: str) -> str:
    return f"{stem}_overlay.png"


def _write(path: Path, data: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(data)
