"""The embedding of superpixels: several layers of the class activation network in one short vector.

Layers before the last tell more regions apart than the class maps do: edges and corners in the first ones, materials
and parts in the middle. Each is averaged into the superpixels, at a coarse resolution that sees what surrounds a region
and at a fine one that sees thin things. `EmbeddingBasis`, a linear map fitted on a few frames, makes all blocks equally
loud and keeps the directions in which regions differ most. The preset `best` lives on it
(`pseudo_labels.propagation`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from serving.errors import InputError
from serving.files import whole_file
from training.classifiers import DEVIATION, MEAN, dilate
from training.features.edges import edge_map
from training.features.lab import rgb_to_lab
from training.features.mosf import region_weights
from training.features.superpixels import adjacency, bands, centroids, superpixels, widths
from training.settings.method import EmbeddingSettings, SuperpixelSettings

POSITION_DEVIATION = (0.29, 0.145)
"""Of a uniform row and a uniform |column - 1/2| in the frame: what position is divided by to be as loud as a layer."""


class LayerPasses:
    """The layers that describe superpixels, one plain pass of the network over the whole frame per resolution.

    Parameters
    ----------
    network
        A classifier of 1 x 1 and 3 x 3 convolutions; copied, its stride held at `settings.output_stride`.
    settings
        The passes: heights, layers, weights.

    Raises
    ------
    InputError
        If the network has no layer of a given name.
    """

    def __init__(self, network: nn.Module, settings: EmbeddingSettings) -> None:
        self.settings = settings
        dilated = copy.deepcopy(network).eval()
        dilate(dilated, settings.output_stride)
        known = set(get_graph_node_names(dilated)[1]) | {name for name, _ in dilated.named_modules()}
        for layer in [layer for one in settings.passes for layer in one.layers]:
            if layer not in known:
                raise InputError(f"embedding.passes: {type(network).__name__} has no layer '{layer}'")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._extractors = [
            create_feature_extractor(dilated, {layer: layer for layer in one.layers}).to(
                self._device, memory_format=torch.channels_last
            )
            for one in settings.passes
        ]

    @torch.inference_mode()
    def maps(self, frame: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the coarse maps of a frame uint8 [H, W, 3], float32 [h, w, D] for each layer of each pass."""
        image = torch.from_numpy(np.array(frame)).to(self._device).permute(2, 0, 1)[None].float() / 255
        mean, deviation = (torch.tensor(values, device=self._device)[:, None, None] for values in (MEAN, DEVIATION))
        image = (image - mean) / deviation
        found = []
        for one, extractor in zip(self.settings.passes, self._extractors, strict=True):
            size = pass_size(frame.shape[0], frame.shape[1], one.height)
            resized = nn.functional.interpolate(image, size, mode="bilinear", align_corners=True)
            maps = extractor(resized.contiguous(memory_format=torch.channels_last))
            found += [maps[layer][0].permute(1, 2, 0).float().cpu().numpy() for layer in one.layers]
        return found

    def describe(self, frame: NDArray[np.uint8], labels: NDArray[np.int32], count: int) -> list[NDArray[np.float32]]:
        """Return the blocks that the embedding is made of: each layer's mean over each superpixel, then its position.

        Parameters
        ----------
        frame
            uint8 [H, W, 3], RGB.
        labels, count
            Superpixels, int32 [H, W], and their number K.

        Returns
        -------
        list of float32 [K, D]
            One for each layer of each pass, in their order; last (row, |column - 1/2|) of the centroid, in shares of
            the frame over `POSITION_DEVIATION`, since streets are alike left and right.
        """
        blocks = []
        means: dict[tuple[int, int], sparse.csr_array] = {}
        for layer in self.maps(frame):
            grid = (layer.shape[0], layer.shape[1])
            if grid not in means:
                means[grid] = region_weights(labels, count, (1, 1), grid)
            blocks.append(means[grid] @ layer.reshape(-1, layer.shape[2]))
        place = (centroids(labels, count) + 0.5) / labels.shape
        place[:, 1] = np.abs(place[:, 1] - 0.5)
        return [*blocks, (place / POSITION_DEVIATION).astype(np.float32)]


def pass_size(height: int, width: int, pass_height: int) -> tuple[int, int]:
    """Return the size, (32 j + 1, 32 k + 1), to which a frame is resized: of `pass_height`, in the frame's shape."""
    return pass_height, 32 * max(1, round((pass_height * width / height - 1) / 32)) + 1


@dataclass(frozen=True)
class EmbeddingBasis:
    """The linear map from the blocks of `LayerPasses.describe`, side by side, to the embedding."""

    centre: NDArray[np.float32]
    """Mean of the blocks, [B]."""
    directions: NDArray[np.float32]
    """[B, D]."""

    @classmethod
    def fit(cls, samples: Sequence[Sequence[NDArray[np.float32]]], settings: EmbeddingSettings) -> "EmbeddingBasis":
        """Fit the map on the blocks of a few frames.

        Channels are divided by their deviation; a layer is reduced to its `settings.layer_dimensions` principal
        components and scaled to unit mean energy times its weight; the `settings.dimensions` principal components of
        all blocks together are the embedding.

        Parameters
        ----------
        samples
            For each frame what `LayerPasses.describe` returned.
        settings
            Weights and dimensions.
        """
        weights = [weight for one in settings.passes for weight in one.weights] + [settings.position_weight]
        blocks = [np.concatenate(block).astype(np.float64) for block in zip(*samples, strict=True)]
        centre = np.concatenate([block.mean(axis=0) for block in blocks])
        maps = []
        for block, weight in zip(blocks, weights, strict=True):
            scale = 1 / np.maximum(block.std(axis=0), 1e-9)
            standard = (block - block.mean(axis=0)) * scale
            axes = _principal_axes(standard, settings.layer_dimensions)
            energy = np.square(standard @ axes).sum(axis=1).mean()
            maps.append(scale[:, None] * axes * (weight / np.sqrt(max(energy, 1e-12))))
        joined = np.concatenate(
            [(block - block.mean(axis=0)) @ map_ for block, map_ in zip(blocks, maps, strict=True)], axis=1
        )
        axes = _principal_axes(joined, settings.dimensions)
        parts = np.split(axes, np.cumsum([map_.shape[1] for map_ in maps])[:-1])
        directions = np.concatenate([map_ @ part for map_, part in zip(maps, parts, strict=True)])
        return cls(centre.astype(np.float32), directions.astype(np.float32))

    def embed(self, blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the embedding of a frame's superpixels, float32 [K, D], each row of length 1."""
        projected = (np.concatenate(blocks, axis=1) - self.centre) @ self.directions
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)

    def save(self, path: Path) -> None:
        """Write the map as one safetensors file, which appears whole or not at all."""
        with whole_file(path) as temporary:
            save_file({"centre": self.centre, "directions": np.ascontiguousarray(self.directions)}, temporary)

    @classmethod
    def load(cls, path: Path) -> "EmbeddingBasis":
        """Read what `save` wrote."""
        return cls(**load_file(path))


@dataclass(frozen=True, kw_only=True)
class EmbeddedRegions:
    """The K superpixels of one frame as `pseudo_labels.propagation` knows them."""

    labels: NDArray[np.int32]
    """Superpixel of each pixel, [H, W], 0..K-1."""
    embedding: NDArray[np.float32]
    """[K, D], each row of length 1; kept in half precision."""
    adjacent: NDArray[np.int32]
    """The pairs of superpixels that touch, [A, 2], the smaller number first."""
    contour: NDArray[np.float32]
    """Mean edge strength along the border of each pair, [A] in [0, 1]."""
    band: NDArray[np.uint8]
    """Row of the frame, [K], 1 (top) to 4 (bottom)."""
    width: NDArray[np.float32]
    """Columns that it spans, as a share of the frame's, [K]."""
    area: NDArray[np.int64]
    """Pixels, [K]."""

    def save(self, path: Path) -> None:
        """Write the regions as one .npz file, which appears whole or not at all."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with whole_file(path) as temporary:
            np.savez(temporary, **arrays | {"embedding": self.embedding.astype(np.float16)})

    @classmethod
    def load(cls, path: Path) -> "EmbeddedRegions":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            content = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**content | {"embedding": content["embedding"].astype(np.float32)})


def embedded_regions(
    frame: NDArray[np.uint8], passes: LayerPasses, basis: EmbeddingBasis, settings: SuperpixelSettings
) -> EmbeddedRegions:
    """Describe one frame, uint8 [H, W, 3], RGB."""
    labels = superpixels(frame, settings)
    count = int(labels.max()) + 1
    adjacent, contour = adjacency(labels, edge_map(rgb_to_lab(frame)))
    return EmbeddedRegions(
        labels=labels,
        embedding=basis.embed(passes.describe(frame, labels, count)),
        adjacent=adjacent,
        contour=contour,
        band=bands(labels, count),
        width=widths(labels, count),
        area=np.bincount(labels.ravel(), minlength=count),
    )


def _principal_axes(samples: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """Return the directions [D, d] of largest second moment, largest first, signs fixed by their largest entry."""
    _, axes = np.linalg.eigh(samples.T @ samples / len(samples))
    axes = axes[:, ::-1][:, :dimensions]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0)
