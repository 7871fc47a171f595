"""DRFI saliency: regions at several levels, each judged by a random forest, fused (Jiang et al., CVPR 2013).

H. Jiang et al., Salient object detection: a discriminative regional feature integration approach, CVPR 2013. The three
views of a frame share one fine segmentation and one look at the pixels: its regions, cut along all seams, are the
pieces of which every region of every tile and level is a union.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.features.saliency.descriptors import describe
from training.features.saliency.forest import Forest, SegmentationSettings
from training.features.saliency.pixels import pixel_features
from training.features.saliency.segmentation import RegionGraph, coarser, fine_segmentation, region_graph
from training.features.saliency.statistics import RegionStatistics, region_statistics
from training.features.saliency.tiles import CROPPINGS, View, cropped


@dataclass(frozen=True)
class Level:
    """One level of one view."""

    union: NDArray[np.int32]
    """Region of each piece, [A]."""
    descriptors: NDArray[np.float32]
    """Of each region, [R, 93]."""


@dataclass(frozen=True)
class Pieces:
    """A frame, cut into what no view and no level cuts further."""

    labels: NDArray[np.int32]
    """Piece of each pixel of the reduced frame, [h, w]."""
    area: NDArray[np.float64]
    """Pixels of each, [A]."""
    views: tuple[tuple[Level, ...], ...]
    """For each view its levels, from fine to coarse."""


def cut_up(
    frame: NDArray[np.uint8], settings: SegmentationSettings, croppings: Sequence[tuple[int, int]] = CROPPINGS
) -> Pieces:
    """Cut a frame, uint8 [H, W, 3], RGB, into pieces and describe the regions of each view and level."""
    frame = _reduced(frame, settings.pixels)
    fine = fine_segmentation(frame, scale=settings.scale, sigma=settings.sigma, minimum_size=settings.minimum_size)
    pixels = pixel_features(frame)
    views = [cropped(*fine.shape, *cropping) for cropping in croppings]
    labels, count = _cut(fine, views)
    statistics, graph = region_statistics(pixels, labels, count), region_graph(labels, count)
    fine_of_piece = _of_pieces(fine, labels, count)
    levels = tuple(
        _levels(
            statistics,
            graph,
            fine_of_piece,
            _of_pieces(view.tile, labels, count),
            view,
            region_statistics(pixels, view.strip, len(view.size)),
            settings.levels,
        )
        for view in views
    )
    return Pieces(labels, statistics.area, levels)


def drfi_maps(
    frame: NDArray[np.uint8], forest: Forest, croppings: Sequence[tuple[int, int]] = CROPPINGS
) -> list[NDArray[np.float32]]:
    """Return the saliency map of each view of a frame, uint8 [H, W, 3], RGB; float32 [H, W] in [0, 1]."""
    pieces = cut_up(frame, forest.metadata.segmentation, croppings)
    height, width = frame.shape[:2]
    maps = []
    for levels in piece_saliency(pieces, forest):
        fused = np.clip(levels @ np.array(forest.metadata.fusion_weights, np.float32), 0, 1)
        reduced = fused[pieces.labels]
        if reduced.shape != (height, width):
            reduced = np.asarray(cv2.resize(reduced, (width, height)), np.float32)
        maps.append(reduced)
    return maps


def piece_saliency(pieces: Pieces, forest: Forest) -> list[NDArray[np.float32]]:
    """Return the saliency of each piece at each level, float32 [A, levels], for each view.

    The forest is asked once, for the regions of all views and levels together.
    """
    levels = [level for view in pieces.views for level in view]
    judged = forest.predict(np.concatenate([level.descriptors for level in levels]))
    parts = np.split(judged, np.cumsum([len(level.descriptors) for level in levels])[:-1])
    of_pieces = iter([part[level.union] for part, level in zip(parts, levels, strict=True)])
    return [np.stack([next(of_pieces) for _ in view], axis=1) for view in pieces.views]


def _levels(
    pieces: RegionStatistics,
    graph: RegionGraph,
    fine: NDArray[np.int32],
    tile: NDArray[np.int32],
    view: View,
    background: RegionStatistics,
    most: Sequence[int],
) -> tuple[Level, ...]:
    """Return a view's levels; `fine` region and `tile` of each piece."""
    found, inverse = np.unique(np.stack([tile, fine]), axis=1, return_inverse=True)
    union: NDArray[np.int32] = inverse.ravel().astype(np.int32)
    count = found.shape[1]
    graph = graph.cut(tile).merged(union, count)
    regions, tile = pieces.merged(union, count), found[0]
    levels = []
    for bound in most:
        step, count = coarser(regions, graph, tile, bound)
        regions, graph = regions.merged(step, count), graph.merged(step, count)
        union, tile = step[union], _of_pieces(tile, step, count)
        levels.append(Level(union, describe(regions, graph, view, tile, background)))
    return tuple(levels)


def _reduced(frame: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    ratio = np.sqrt(most / (height * width))
    if ratio >= 1:
        return frame
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _cut(fine: NDArray[np.int32], views: Sequence[View]) -> tuple[NDArray[np.int32], int]:
    """Cut the fine segmentation along the seams of all views; number the pieces."""
    key = fine.astype(np.int64)
    for view in views:
        key = key * len(view.size) + view.tile
    present = np.zeros(int(key.max()) + 1, bool)
    present[key] = True
    number = np.cumsum(present, dtype=np.int32) - 1
    return number[key], int(number[-1]) + 1


def _of_pieces(values: NDArray[np.int32], labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the value of each piece; all its members have the same."""
    result = np.empty(count, np.int32)
    result[labels] = values
    return result
