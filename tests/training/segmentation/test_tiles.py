import numpy as np
import pytest

from serving.errors import InputError
from training.segmentation.tiles import tiles


def test_a_frame_within_the_budget_is_one_tile():
    (tile,) = tiles(50, 70, 3500, 16, 8)
    assert tile.part == tile.seen == tile.inner == (slice(0, 50), slice(0, 70))


def test_one_row_of_tiles_by_hand():
    # Sides of at most 56: parts of at most 56 - 2 x 8 = 40, so 100 columns are three parts of 40, 40 and 20.
    row = list(tiles(40, 100, 56 * 56, 5, 8))
    assert [tile.part[1] for tile in row] == [slice(0, 40), slice(40, 80), slice(80, 100)]
    assert [tile.seen[1] for tile in row] == [slice(0, 48), slice(32, 88), slice(72, 100)]
    assert [tile.inner[1] for tile in row] == [slice(0, 40), slice(8, 48), slice(8, 28)]
    assert all(tile.part[0] == slice(0, 40) for tile in row)


@pytest.mark.parametrize("stride", [1, 8, 16])
@pytest.mark.parametrize("size", [(1, 4000), (97, 201), (256, 256), (331, 64)])
@pytest.mark.parametrize("overlap", [0, 5, 20])
def test_parts_cover_the_frame_once_and_no_tile_is_too_large(size, overlap, stride):
    covered = np.zeros(size, int)
    rows = np.arange(size[0])[:, None] * 10000 + np.arange(size[1])
    for tile in tiles(*size, 110**2, overlap, stride):
        covered[tile.part] += 1
        assert np.array_equal(rows[tile.seen][tile.inner], rows[tile.part])
        assert rows[tile.seen].size <= 110**2 or size[0] * size[1] <= 110**2
        assert all(side.start % stride == 0 for side in (*tile.part, *tile.seen))
    assert (covered == 1).all()


def test_a_budget_that_is_all_overlap_is_refused_with_one_that_is_not():
    with pytest.raises(
        InputError, match=r"prediction\.tile_pixels: 2000 .* overlap of 24 on each side; give more, 6400"
    ):
        list(tiles(100, 100, 2000, 20, 8))
    assert len(list(tiles(100, 100, 6400, 20, 8))) == 16
