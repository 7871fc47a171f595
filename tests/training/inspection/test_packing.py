import base64
import zlib

import numpy as np
import pytest

from training.inspection.packing import pack, quantise, quantise_columns, upper_triangle


def unpack(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.dtype(dtype).newbyteorder("<"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_an_array_comes_back_as_it_went(dtype):
    array = (np.arange(12) * 21).reshape(3, 4).astype(dtype)
    assert np.array_equal(unpack(pack(array), dtype), array.ravel())
    assert np.array_equal(unpack(pack(array.T), dtype), array.T.ravel())


def test_quantised_values_by_hand():
    assert quantise(np.array([-1, 0, 0.5, 0.999, 1, 2])).tolist() == [0, 0, 128, 255, 255, 255]


def test_each_column_has_its_own_scale():
    steps, most = quantise_columns(np.array([[0.5, 0.002, 0], [1, 0.001, 0]], np.float32))
    assert steps.tolist() == [[128, 255, 0], [255, 128, 0]]
    assert most.tolist() == pytest.approx([1, 0.002, 0])


def test_the_triangle_is_read_back_where_the_page_looks():
    size = 5
    values = np.random.default_rng(0).random((size, size)) ** 3
    matrix = np.maximum(values, values.T)
    packed = upper_triangle(matrix)
    assert packed.dtype == np.uint8 and len(packed) == size * (size + 1) // 2
    for i in range(size):
        for j in range(i, size):
            read = (packed[i * size - i * (i - 1) // 2 + j - i] / 255) ** 2
            assert read == pytest.approx(matrix[i, j], abs=1 / 255 if matrix[i, j] > 0.25 else 1 / 500)
