import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import InputError
from serving.masks import MaskEncoding, decode_mask, encode_mask

ROW = st.lists(st.tuples(st.integers(0, 255), st.sampled_from([1, 2, 127, 128, 129, 20_000])), min_size=1, max_size=8)


@settings(deadline=None)
@given(ROW)
def test_every_encoding_comes_back(runs: list[tuple[int, int]]) -> None:
    mask = np.repeat([value for value, _ in runs], [length for _, length in runs]).astype(np.uint8)
    for shape in ((1, mask.size), (mask.size, 1)):
        for encoding in MaskEncoding:
            data = encode_mask(mask.reshape(shape), encoding)
            decoded = decode_mask(data, encoding, height=shape[0], width=shape[1])
            assert np.array_equal(decoded, mask.reshape(shape))


def test_runs_are_as_the_contract_says() -> None:
    mask = np.array([[200] * 200, [200] * 100 + [7] * 100], np.uint8)
    assert encode_mask(mask, MaskEncoding.RLE) == bytes([200, 0x80 | 44, 2, 7, 100])  # 300 = 2 x 128 + 44


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_break_the_run_decoder(data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert decode_mask(data, MaskEncoding.RLE, height=5, width=7).shape == (5, 7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cover 0 pixels"),
        (b"\1", "truncated"),
        (b"\1\x80", "truncated"),
        (b"\1\4\2", "truncated"),
        (b"\1\3", "cover 3 pixels, said to be 4"),
        (b"\1\x84\x80\x80\x80\x80\x00", "more than 5 bytes"),
        (b"\1\xff\xff\xff\xff\x7f", "cover 34359738367 pixels"),
    ],
)
def test_wrong_runs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_mask(data, MaskEncoding.RLE, height=2, width=2)


def test_a_wrong_size_is_refused() -> None:
    mask = np.zeros((2, 3), np.uint8)
    for encoding in (MaskEncoding.RAW, MaskEncoding.PNG):
        with pytest.raises(InputError, match=r"mask|image"):
            decode_mask(encode_mask(mask, encoding), encoding, height=2, width=2)
    with pytest.raises(InputError, match="3 x 2, said to be 2 x 3"):
        decode_mask(encode_mask(mask, MaskEncoding.PNG), MaskEncoding.PNG, height=3, width=2)
