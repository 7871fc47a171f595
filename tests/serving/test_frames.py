import io
import struct
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from serving.errors import InputError
from serving.frames import (
    ImageFormat,
    PixelFormat,
    Pixels,
    decode_image,
    decode_raw,
    encode_jpeg,
    encode_png,
    resize_frame,
    resize_mask,
)

RNG = np.random.default_rng(0)
FRAME = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: bytes, packed: bytes, extra: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def test_lossless_formats_come_back_exactly() -> None:
    image = Image.fromarray(FRAME)
    for data in (
        encode_png(FRAME),
        saved(image, "PNG"),
        saved(image, "WEBP", lossless=True),
        saved(image, "WEBP", lossless=True, exif=b"Exif\0\0", icc_profile=b"x"),
    ):
        assert np.array_equal(decode_image(data), FRAME)


def test_jpeg_comes_back_nearly() -> None:
    smooth = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    for data in (encode_jpeg(smooth), saved(Image.fromarray(smooth), "JPEG", progressive=True)):
        assert np.abs(decode_image(data).astype(int) - smooth).max() <= 2


def test_jpeg_of_other_colour_spaces() -> None:
    grey = np.full((16, 16), 99, np.uint8)
    assert np.array_equal(decode_image(saved(Image.fromarray(grey), "JPEG")), np.full((16, 16, 3), 99))
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    cmyk = decode_image(saved(red.convert("CMYK"), "JPEG")).astype(int)
    assert np.abs(cmyk - (255, 0, 0)).max() <= 3


def test_jpeg_is_not_rotated_by_its_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(saved(Image.new("RGB", (16, 8)), "JPEG", exif=exif)).shape == (8, 16, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_png_modes_become_rgb(mode: str) -> None:
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(np.dstack([grey] * 3)).convert(mode)
    assert np.array_equal(decode_image(saved(image, "PNG")), np.dstack([grey] * 3))


def test_sixteen_bit_samples_keep_the_high_byte() -> None:
    grey = Image.fromarray(np.array([[0x1234, 0xFEDC]], np.uint16))
    assert decode_image(saved(grey, "PNG"))[0, :, 0].tolist() == [0x12, 0xFE]
    _, coloured = cv2.imencode(".png", np.full((1, 1, 3), 0x1234, np.uint16))
    assert decode_image(coloured.tobytes()).tolist() == [[[0x12, 0x12, 0x12]]]


def test_alpha_is_dropped() -> None:
    rgba = np.dstack([FRAME, np.zeros((6, 8), np.uint8)])
    assert np.array_equal(decode_image(saved(Image.fromarray(rgba), "PNG")), FRAME)


def test_what_is_no_frame_says_so(bad_images: dict[str, tuple[bytes, str]]) -> None:
    for data, message in bad_images.values():
        with pytest.raises(InputError, match=message):
            decode_image(data)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG"])
def test_every_truncation_is_an_error(image_format: str) -> None:
    data = saved(Image.fromarray(FRAME), image_format)
    for length in range(len(data)):
        with pytest.raises(InputError):
            decode_image(data[:length])


def test_sizes_are_refused_before_pixels_are_decoded(huge_png: bytes) -> None:
    tracemalloc.start()
    began = time.thread_time()
    with pytest.raises(InputError, match="10000 x 10000"):
        decode_image(huge_png)
    assert time.thread_time() - began < 0.05
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG"])
def test_the_limit_is_exact(image_format: str) -> None:
    for lossless in (False, True):
        data = saved(Image.fromarray(FRAME), image_format, lossless=lossless)
        assert decode_image(data, max_pixels=48).shape == (6, 8, 3)
        with pytest.raises(InputError, match="8 x 6 = 48 pixels; the limit is 47"):
            decode_image(data, max_pixels=47)


def test_a_png_with_two_headers_is_refused_by_its_second() -> None:
    stream = io.BytesIO()
    Image.new("1", (7000, 7000)).save(stream, "PNG")
    large = stream.getvalue()
    body = b"IHDR" + struct.pack(">IIBBBBB", 1, 1, 1, 0, 0, 0, 0)
    small = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    both = large[:8] + small + large[8:]
    with Image.open(io.BytesIO(both)) as image:
        assert image.size == (7000, 7000)  # so the limit must not be judged by the first alone
    tracemalloc.start()
    with pytest.raises(InputError, match="headers disagree: 1 x 1 and 7000 x 7000 pixels"):
        decode_image(both)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_bombs_are_refused_quickly() -> None:
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(14))
    zeros = zlib.compress(bytes(20_000_000))
    began = time.thread_time()
    for bomb in (
        png(header, rows, extra=chunk(b"zTXt", b"a\0\0" + zeros)),
        png(header, rows, extra=chunk(b"iCCP", b"a\0\0" + zeros)),
        png(header, rows, extra=chunk(b"tEXt", b"a\0") * 30_000),
        png(struct.pack(">IIBBBBB", 0, 2, 8, 2, 0, 0, 0), rows),
        encode_jpeg(FRAME).replace(b"\xff\xda", b"\xff\xda" * 200),
    ):
        with pytest.raises(InputError):
            decode_image(bomb)
    assert decode_image(png(header, zeros)).shape == (2, 2, 3)  # no more is inflated than the header says
    assert time.thread_time() - began < 1


def test_a_declared_format_must_be_true() -> None:
    data = encode_png(FRAME)
    assert np.array_equal(decode_image(data, image_format=ImageFormat.PNG), FRAME)
    with pytest.raises(InputError, match="declared JPEG, but its first bytes are those of PNG"):
        decode_image(data, image_format=ImageFormat.JPEG)


def raw(data: bytes, pixel_format: PixelFormat, *, height: int = 2, width: int = 2, stride: int = 0) -> Pixels:
    return decode_raw(data, height=height, width=width, stride=stride, pixel_format=pixel_format)


def test_raw_layouts() -> None:
    assert raw(bytes(range(12)), PixelFormat.RGB8).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert raw(bytes(range(12)), PixelFormat.BGR8)[0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert raw(b"\1\2\3\4", PixelFormat.MONO8)[1].tolist() == [[3, 3, 3], [4, 4, 4]]
    # BT.601, video range: luma 235 is white; of luma 81 the chroma 90, 240 is red.
    assert raw(bytes([235] * 4 + [128, 128]), PixelFormat.NV12).min() == 255
    red = raw(bytes([81] * 4 + [90, 240]), PixelFormat.NV12).astype(int)
    assert np.abs(red - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_stride_is_padding(pixel_format: PixelFormat) -> None:
    row = {"RGB8": 12, "BGR8": 12}.get(pixel_format.value, 4)
    rows = 3 if pixel_format is PixelFormat.NV12 else 2
    tight = RNG.integers(0, 256, (rows, row), dtype=np.uint8)
    padded = np.pad(tight, ((0, 0), (0, 5)), constant_values=77)
    expected = raw(tight.tobytes(), pixel_format, width=4)
    assert np.array_equal(raw(padded.tobytes(), pixel_format, width=4, stride=row + 5), expected)


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (11, {}, "takes 12 bytes, got 11"),
        (13, {}, "takes 12 bytes, got 13"),
        (12, {"stride": 5}, "stride 5 is less than a row of 2 RGB8 pixels"),
        (12, {"height": 0}, "at least 1"),
        (12, {"height": 2**31, "width": 2**31}, "the limit is"),
    ],
)
def test_raw_lengths_are_exact(length: int, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        raw(bytes(length), PixelFormat.RGB8, **options)


def test_nv12_is_even() -> None:
    with pytest.raises(InputError, match="even"):
        raw(bytes(9), PixelFormat.NV12, width=3)


def test_resizing_a_frame() -> None:
    assert resize_frame(FRAME, 6, 8) is FRAME
    doubled = np.repeat(np.repeat(FRAME, 2, axis=0), 2, axis=1)
    assert np.array_equal(resize_frame(doubled, 6, 8), FRAME)
    for size in ((1, 1), (7, 3), (13, 40)):
        assert resize_frame(FRAME, *size).shape == (*size, 3)


def test_resizing_a_mask_is_nearest_by_centres() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert resize_mask(mask, 3, 4) is mask
    for height, width in ((1, 1), (6, 8), (7, 3), (2, 9)):
        resized = resize_mask(mask, height, width)
        for y in range(height):
            for x in range(width):
                assert resized[y, x] == mask[int((y + 0.5) * 3 / height), int((x + 0.5) * 4 / width)]


def test_png_is_read_alike_by_others() -> None:
    for pixels in (FRAME, FRAME[:, :, 0]):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)
