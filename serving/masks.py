"""Masks to bytes and back, in the three encodings of the wire contract: RAW, PNG and RLE.

All are lossless. The server encodes, the client decodes; a decoder checks every length before it takes memory.
"""

from enum import Enum

import numpy as np
import numpy.typing as npt

from serving.errors import InputError
from serving.frames import ImageFormat, Pixels, decode_image, encode_png

_VARINT_LIMIT = 5
"""Bytes of the longest run's length: base 128 to the fifth is 34 billion pixels."""


class MaskEncoding(Enum):
    """How a mask travels; the proto's Mask.data says what each holds."""

    RAW = "RAW"
    PNG = "PNG"
    RLE = "RLE"


def encode_mask(mask: Pixels, encoding: MaskEncoding) -> bytes | memoryview:
    """Encode a mask.

    Parameters
    ----------
    mask
        uint8 [H, W].
    encoding
        RAW: the H x W bytes. PNG: 8-bit greyscale. RLE: runs over the RAW order, each a value byte and the run's
        length as a base-128 varint.

    Returns
    -------
    The bytes; of RAW a view of the mask itself, so that it is not copied.
    """
    if encoding is MaskEncoding.PNG:
        return encode_png(mask)
    if encoding is MaskEncoding.RLE:
        return _encode_runs(mask.ravel())
    return np.ascontiguousarray(mask).data.cast("B")


def decode_mask(data: bytes, encoding: MaskEncoding, *, height: int, width: int) -> Pixels:
    """Decode what `encode_mask` made.

    Returns
    -------
    uint8 [height, width].

    Raises
    ------
    InputError
        If the data is not a mask of that size in that encoding.
    """
    size = height * width
    if encoding is MaskEncoding.RAW:
        if len(data) != size:
            raise InputError(f"mask: {width} x {height} RAW takes {size} bytes, got {len(data)}")
        return np.frombuffer(data, np.uint8).reshape(height, width)
    if encoding is MaskEncoding.RLE:
        return _decode_runs(np.frombuffer(data, np.uint8), size).reshape(height, width)
    pixels = decode_image(data, image_format=ImageFormat.PNG, max_pixels=size)[:, :, 0]
    if pixels.shape != (height, width):
        raise InputError(f"mask: the PNG is {pixels.shape[1]} x {pixels.shape[0]}, said to be {width} x {height}")
    return np.ascontiguousarray(pixels)


def _encode_runs(values: Pixels) -> bytes:
    starts = np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)
    lengths = np.diff(starts, append=values.size)
    groups = np.ones(lengths.size, np.int64)  # bytes of each varint
    for bits in range(7, 7 * _VARINT_LIMIT, 7):
        groups += lengths >> bits > 0
    positions = np.cumsum(groups + 1) - groups - 1
    encoded = np.empty(int(np.sum(groups + 1)), np.uint8)
    encoded[positions] = values[starts]
    for index in range(int(groups.max())):
        has = groups > index
        more = (groups[has] > index + 1).astype(np.uint8) << 7
        encoded[positions[has] + 1 + index] = (lengths[has] >> 7 * index & 0x7F).astype(np.uint8) | more
    return encoded.tobytes()


def _decode_runs(encoded: Pixels, size: int) -> Pixels:
    starts, ends = _run_bounds(encoded)
    groups = ends - starts - 1
    if groups.size and int(groups.max()) > _VARINT_LIMIT:
        raise InputError(f"mask: RLE with a run length of more than {_VARINT_LIMIT} bytes")
    lengths = np.zeros(starts.size, np.int64)
    for index in range(int(groups.max(initial=0))):
        has = groups > index
        lengths[has] |= (encoded[starts[has] + 1 + index].astype(np.int64) & 0x7F) << 7 * index
    if int(lengths.sum()) != size:
        raise InputError(f"mask: the RLE runs cover {int(lengths.sum())} pixels, said to be {size}")
    return np.repeat(encoded[starts], lengths)


def _run_bounds(encoded: Pixels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first byte of each run and the first byte after it.

    Where a run starts depends on all before it. `jump` leads from a run's start to the start 2^k runs on, so that
    each doubling of k finds as many starts again.
    """
    count = encoded.size
    if count and (count == 1 or encoded[-1] & 0x80):
        raise InputError("mask: the RLE data is truncated")
    last_bytes = np.append(np.flatnonzero(encoded < 0x80), count)
    after = np.minimum(last_bytes[np.searchsorted(last_bytes, np.arange(count), side="right")] + 1, count + 1)
    jump = np.append(after, [count, count + 1])  # the end leads to itself, and so does what lies beyond it
    starts = np.zeros(1, np.int64)
    while starts[-1] < count:
        starts = np.concatenate([starts, jump[starts]])
        jump = jump[jump]
    if np.any(starts > count):
        raise InputError("mask: the RLE data is truncated")
    starts = starts[starts < count]
    return starts, after[starts]
