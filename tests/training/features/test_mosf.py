import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.features.cam import ClassActivation, semantic
from training.features.mosf import Slicing, nearest_cells, region_weights, slicing
from training.settings.method import CamSettings

GRID = CamSettings().slices


class Cells(nn.Module):
    """One convolution of stride 32 that sees `reach` pixels around a cell's centre, with zeros beyond its input."""

    def __init__(self, reach):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 2 * reach + 1, stride=32, padding=reach), nn.Softplus())
        self.classifier = nn.Linear(4, 6)

    def forward(self, images):
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def features_by(encoder, network, frame, labels, slice_height):
    torch.manual_seed(0)
    count = int(labels.max()) + 1
    return semantic(frame, labels, count, network, CamSettings(encoder=encoder, slice_height=slice_height))


def test_slices_are_the_papers():
    # Half the height and a third of the width, corners at quarters and sixths, of a frame resized to twice a slice.
    slices = slicing(360, 480, CamSettings())
    assert slices == Slicing((3, 5), (225, 193))
    assert slices.frame_size == (449, 577)
    frame = torch.arange(449 * 577).reshape(1, 449, 577)
    cut = slices.cut(frame)
    assert len(cut) == 15 and {part.shape for part in cut} == {(1, 225, 193)}
    corners = [divmod(int(part[0, 0, 0]), 577) for part in cut]
    assert corners == [(448 * m // 4, 576 * n // 6) for m in range(3) for n in range(5)]


def test_sizes_follow_the_frame_and_are_32k_plus_1():
    size = {
        encoder: slicing(1024, 2048, CamSettings(encoder=encoder, slice_height=353))
        for encoder in ("mosf", "single", "dense")
    }
    assert size["mosf"] == Slicing((3, 5), (353, 481))
    assert size["single"] == Slicing((1, 1), (353, 705))
    assert size["dense"] == Slicing((1, 1), (705, 1441))
    assert size["single"].frame_size == (353, 705) and size["dense"].frame_size == size["mosf"].frame_size


@pytest.mark.parametrize(("height", "width"), [(9, 13), (360, 480), (31, 7)])
def test_a_pixel_takes_the_slice_whose_centre_is_nearest(height, width):
    rows, columns = np.indices((height, width))
    centres = np.array([((height - 1) * m / 4, (width - 1) * n / 6) for m in (1, 2, 3) for n in (1, 2, 3, 4, 5)])
    squared = (rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2
    found = nearest_cells(height, 3, 8)[0][:, None] * 5 + nearest_cells(width, 5, 7)[0]
    chosen = np.take_along_axis(squared, found[..., None], axis=2)[..., 0]
    assert chosen == pytest.approx(squared.min(axis=2), rel=1e-9)


def pixel_by_pixel(labels, count, grid, cells):
    """The definition, one pixel after the other: bilinear interpolation in the nearest slice, averaged."""
    height, width = labels.shape
    matrix = np.zeros((count, *grid, *cells))
    for row in range(height):
        for column in range(width):
            places = []
            for at, length, slices, size in ((row, height, grid[0], cells[0]), (column, width, grid[1], cells[1])):
                half = (length - 1) / (slices + 1)
                number = min(range(slices), key=lambda i, at=at, half=half: (round(abs(at - (i + 1) * half), 9), i))
                position = (at - number * half) / (2 * half) * (size - 1)
                before = min(int(position + 1e-9), max(size - 2, 0))
                places.append((number, before, position - before))
            (m, top, down), (n, left, across) = places
            for r, c, weight in (
                (0, 0, (1 - down) * (1 - across)),
                (0, 1, (1 - down) * across),
                (1, 0, down * (1 - across)),
                (1, 1, down * across),
            ):
                if abs(weight) > 1e-9:
                    matrix[labels[row, column], m, n, top + r, left + c] += weight
    return matrix.reshape(count, -1) / np.maximum(np.bincount(labels.ravel(), minlength=count), 1)[:, None]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(2, 12), st.integers(2, 12)),
    st.sampled_from([GRID, (1, 1), (2, 3)]),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_region_weights_are_the_mean_of_each_pixels_interpolation(seed, shape, grid, cells):
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.int32)
    found = region_weights(labels, 4, grid, cells)
    assert found.toarray() == pytest.approx(pixel_by_pixel(labels, 4, grid, cells), abs=1e-6)
    present = np.bincount(labels.ravel(), minlength=4) > 0
    assert found.sum(axis=1) == pytest.approx(present.astype(float), abs=1e-6)


@pytest.mark.parametrize("grid", [GRID, (1, 1)])
def test_maps_that_hold_the_frames_own_columns_give_them_back(grid):
    height, width, cells = 12, 25, (3, 5)
    half = (width - 1) / (grid[1] + 1)
    columns = [number * half + np.linspace(0, 2 * half, cells[1]) for number in range(grid[1])]
    maps = np.tile(np.stack(columns)[:, None], (grid[0], 1, cells[0], 1))
    labels = np.tile(np.arange(width, dtype=np.int32), (height, 1))  # each column is a superpixel
    assert region_weights(labels, width, grid, cells) @ maps.ravel() == pytest.approx(np.arange(width), abs=1e-4)


# MOSF and the dense pass agree where a slice shows the network as much as the whole frame does.

FRAME = np.random.default_rng(3).integers(0, 256, (65, 97, 3), np.uint8)
LABELS = (np.indices((65, 97))[0] // 5 * 20 + np.indices((65, 97))[1] // 5).astype(np.int32)
# Slices are 129 x 129, so half a slice is two strides of 32, and a quarter one.


@pytest.mark.parametrize("reach", [0, 16, 32])
def test_dense_and_mosf_agree_if_cells_coincide_and_the_network_sees_a_quarter_of_a_slice(reach):
    network = ClassActivation(Cells(reach))
    dense, mosf = (features_by(encoder, network, FRAME, LABELS, 129) for encoder in ("dense", "mosf"))
    assert dense == pytest.approx(mosf, abs=1e-5)
    assert np.ptp(dense, axis=0).max() > 0.01


def test_dense_and_mosf_differ_where_slices_cut_off_what_the_network_sees():
    network = ClassActivation(Cells(64))
    dense, mosf = (features_by(encoder, network, FRAME, LABELS, 129) for encoder in ("dense", "mosf"))
    assert np.abs(dense - mosf).max() > 1e-3


@pytest.mark.parametrize("slice_height", [97, 161])
def test_encoders_agree_at_any_size_on_a_linear_frame_seen_a_point_at_a_time(slice_height):
    """Interpolation between cells, wherever they lie, gives a linear map back."""
    rows, columns = np.indices((33, 49))
    frame = np.stack([2 * rows + 3 * columns, 3 * rows + columns, 255 - 4 * columns], axis=2).astype(np.uint8)
    labels = (rows // 8 * 10 + columns // 8).astype(np.int32)
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    linear = Cells(0)
    linear.features[1] = nn.Identity()
    network = ClassActivation(linear)
    mosf, dense, single = (
        features_by(encoder, network, frame, labels, slice_height) for encoder in ("mosf", "dense", "single")
    )
    assert dense == pytest.approx(mosf, abs=1e-4)
    assert single == pytest.approx(mosf, abs=1e-4)
