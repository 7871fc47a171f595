"""Bytes to pixels and back, and resizing: what serving and evaluation must do alike.

Every size is read from the file's header and checked before a pixel is decoded or memory for it is taken, so that
a small file cannot ask for a large allocation. All results are uint8 RGB arrays [height, width, 3]. Mask encodings
are in `serving.masks`.
"""

import io
import struct
import zlib
from enum import Enum
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from isal import isal_zlib
from PIL import Image

from serving.errors import InputError

Pixels = npt.NDArray[np.uint8]
Value = TypeVar("Value", bound=np.generic)

MAX_PIXELS = 2**25
"""Default limit of a frame's pixels: 33.5 million, just above 8K (7680 x 4320)."""
MAX_JPEG_SCANS = 100
"""Progressive files have about ten scans; thousands of empty ones would cost seconds in a few kilobytes."""
MAX_PNG_CHUNKS = 20_000
"""Encoders write chunks of 8 KiB and more; millions of empty ones would cost seconds."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ImageFormat(Enum):
    """A compressed format that `decode_image` reads."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"


class PixelFormat(Enum):
    """A layout that `decode_raw` reads; the proto's PixelFormat says what each holds."""

    RGB8 = "RGB8"
    BGR8 = "BGR8"
    NV12 = "NV12"
    MONO8 = "MONO8"


BYTES_PER_PIXEL = {PixelFormat.RGB8: 3, PixelFormat.BGR8: 3, PixelFormat.NV12: 1, PixelFormat.MONO8: 1}


def decode_image(data: bytes, *, image_format: ImageFormat | None = None, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a JPEG, PNG or WEBP file.

    Alpha is dropped, greyscale and palettes become RGB, of 16-bit samples the high byte is kept, of an animation the
    first picture; EXIF rotation is not applied, since a mask must lie on the pixels as they are stored.

    Parameters
    ----------
    data
        The whole file.
    image_format
        What the sender says it is; None means recognised by the first bytes.
    max_pixels
        Limit of width x height, checked before decoding.

    Returns
    -------
    uint8 array [height, width, 3], RGB.

    Raises
    ------
    InputError
        If the data is no such file, is not what the sender says, is larger than the limit, truncated or damaged.
    """
    recognised = recognise_format(data)
    if image_format is not None and image_format is not recognised:
        raise InputError(f"image: declared {image_format.value}, but its first bytes are those of {recognised.value}")
    height, width = _HEADERS[recognised](data)
    _check_size(height, width, max_pixels, recognised.value)
    return (
        _decode_jpeg(data) if recognised is ImageFormat.JPEG else _decode_with_pillow(data, recognised, height, width)
    )


def image_size(data: bytes) -> tuple[int, int]:
    """Read the height and width, pixels, from the header of a JPEG, PNG or WEBP file; nothing is decoded.

    Raises
    ------
    InputError
        If the data is no such file, or its header is damaged.
    """
    return _HEADERS[recognise_format(data)](data)


def recognise_format(data: bytes) -> ImageFormat:
    """Tell an image's format by its first bytes.

    Raises
    ------
    InputError
        If they are of none that can be read; the message says what they look like.
    """
    if data[:3] == b"\xff\xd8\xff":
        return ImageFormat.JPEG
    if data[:8] == PNG_SIGNATURE:
        return ImageFormat.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    raise InputError(f"image: {_describe_unknown(data)}; send a JPEG, PNG or WEBP file, or raw pixels")


def decode_raw(
    data: bytes, *, height: int, width: int, stride: int, pixel_format: PixelFormat, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Turn uncompressed pixels into RGB.

    Parameters
    ----------
    data
        `height` rows of `stride` bytes; for NV12 `height` rows of luma, then height / 2 rows of interleaved chroma.
    height, width
        Size in pixels; both even for NV12.
    stride
        Bytes from one row to the next; 0 means rows without padding.
    pixel_format
        The layout of a pixel. NV12 is BT.601, video range.
    max_pixels
        Limit of width x height.

    Returns
    -------
    uint8 array [height, width, 3], RGB. RGB8 is a view of `data`, not writeable.

    Raises
    ------
    InputError
        If a size is out of range, or `data` is not exactly as long as the sizes say.
    """
    _check_size(height, width, max_pixels, f"raw {pixel_format.value}")
    row = width * BYTES_PER_PIXEL[pixel_format]
    stride = stride or row
    if stride < row:
        raise InputError(
            f"raw image: stride {stride} is less than a row of {width} {pixel_format.value} pixels ({row})"
        )
    if pixel_format is PixelFormat.NV12 and (height % 2 or width % 2):
        raise InputError(f"raw image: NV12 needs an even width and height, got {width} x {height}")
    rows = height + height // 2 if pixel_format is PixelFormat.NV12 else height
    if len(data) != rows * stride:
        raise InputError(
            f"raw image: {width} x {height} {pixel_format.value} with stride {stride} takes {rows * stride} bytes, "
            f"got {len(data)}"
        )
    plane = np.frombuffer(data, np.uint8).reshape(rows, stride)[:, :row]
    if pixel_format is PixelFormat.NV12:
        return np.asarray(cv2.cvtColor(plane, cv2.COLOR_YUV2RGB_NV12), np.uint8)
    if pixel_format is PixelFormat.MONO8:
        return np.repeat(plane[:, :, None], 3, axis=2)
    pixels = plane.reshape(height, width, 3)
    return pixels if pixel_format is PixelFormat.RGB8 else np.ascontiguousarray(pixels[:, :, ::-1])


def resize_frame(frame: Pixels, height: int, width: int) -> Pixels:
    """Resize a frame: by area where it shrinks, linearly where it grows; the same frame where the size is right.

    Parameters
    ----------
    frame
        uint8 [H, W, 3].
    height, width
        The size wanted, pixels.

    Returns
    -------
    uint8 [height, width, 3].
    """
    if frame.shape[:2] == (height, width):
        return frame
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=interpolation), np.uint8)


def resize_mask(mask: npt.NDArray[Value], height: int, width: int) -> npt.NDArray[Value]:
    """Resize a mask to the nearest pixel by centres, so that no value appears that was not there.

    Parameters
    ----------
    mask
        [H, W], such as class ids or confidences.
    height, width
        The size wanted, pixels.

    Returns
    -------
    [height, width], of the same type; pixel (y, x) is
    `mask[floor((y + 0.5) * H / height), floor((x + 0.5) * W / width)]`.
    """
    if mask.shape == (height, width):
        return mask
    # By indices, not cv2.INTER_NEAREST_EXACT: as fast at these sizes, and the formula above holds to the last pixel.
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    return np.take(np.take(mask, columns, axis=1), rows, axis=0)


def encode_jpeg(frame: Pixels, quality: int = 90) -> bytes:
    """Encode a frame, uint8 [H, W, 3] RGB, as a JPEG of `quality` 1 to 100."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=quality, colorspace="RGB"))


def encode_png(pixels: Pixels) -> bytes:
    """Encode pixels losslessly as a PNG: uint8 [H, W] as greyscale, [H, W, 3] as RGB.

    Every row is filtered by the row above and deflated by ISA-L at level 1: on masks a tenth of Pillow's time.
    """
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2
    rows = pixels.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # the filter "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(filtered.data, 1)), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        for kind, body in chunks
    )


def _check_size(height: int, width: int, max_pixels: int, what: str) -> None:
    if height < 1 or width < 1:
        raise InputError(f"image: {what} of {width} x {height} pixels; both must be at least 1")
    if height * width > max_pixels:
        raise InputError(
            f"image: {what} of {width} x {height} = {height * width} pixels; the limit is {max_pixels} pixels"
        )


def _describe_unknown(data: bytes) -> str:
    if not data:
        return "0 bytes"
    names = {b"GIF8": "a GIF file", b"BM": "a BMP file", b"II*\0": "a TIFF file", b"MM\0*": "a TIFF file"}
    for signature, name in names.items():
        if data.startswith(signature):
            return name
    start = data[:16]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        return f"text, beginning {start.decode('ascii')!r}"
    return f"no known image, beginning with the bytes {start.hex(' ')}"


def _jpeg_size(data: bytes) -> tuple[int, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise InputError(f"image: the JPEG header is truncated or damaged ({len(data)} bytes): {error}") from error
    # In compressed data 0xFF is always followed by 0 or a restart marker, so 0xFF 0xDA marks a scan. By numpy:
    # bytes.count takes a tenth of the time of decoding.
    content = np.frombuffer(data, np.uint8)
    scans = np.count_nonzero((content[:-1] == 0xFF) & (content[1:] == 0xDA))
    if scans > MAX_JPEG_SCANS:
        raise InputError(f"image: JPEG with {scans} scans; the limit is {MAX_JPEG_SCANS}")
    return height, width


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise InputError(f"image: the PNG header is truncated or damaged ({len(data)} bytes)")
    width, height = struct.unpack_from(">II", data, 16)
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_PNG_CHUNKS):
        if position + 12 > len(data):
            raise InputError(f"image: the PNG is truncated: {len(data)} bytes and no end chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return height, width
        position += 12 + length
    raise InputError(f"image: PNG with more than {MAX_PNG_CHUNKS} chunks")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if len(data) >= 30 and kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if len(data) >= 25 and kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if len(data) >= 30 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    raise InputError(f"image: the WEBP header is truncated or damaged ({len(data)} bytes)")


_HEADERS = {ImageFormat.JPEG: _jpeg_size, ImageFormat.PNG: _png_size, ImageFormat.WEBP: _webp_size}


def _decode_jpeg(data: bytes) -> Pixels:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True), np.uint8)
    except ValueError as error:
        raise InputError(f"image: the JPEG is truncated or damaged ({len(data)} bytes): {error}") from error


def _decode_with_pillow(data: bytes, image_format: ImageFormat, height: int, width: int) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=[image_format.value]) as image:
            # A file may have several headers; Pillow goes by the last, which nobody has checked.
            if image.size != (width, height):
                raise InputError(f"headers disagree: {width} x {height} and {image.size[0]} x {image.size[1]} pixels")
            image.load()
            if image.mode.startswith("I"):
                grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.asarray(image.convert("RGB"), np.uint8)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            f"image: the {image_format.value} is truncated or damaged ({len(data)} bytes): {error}"
        ) from error
