"""RegionFeatures, the contract between features and pseudo labels: all that a frame is, for the method."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.files import whole_file
from training.features.cam import ClassActivation, semantic
from training.features.edges import edge_map, edge_similarity
from training.features.imaging import colour, texture
from training.features.lab import rgb_to_lab
from training.features.saliency.views import SaliencyMaps, saliency
from training.features.superpixels import bands, superpixels, widths
from training.settings.method import CamSettings, SuperpixelSettings


@dataclass(frozen=True, kw_only=True)
class RegionFeatures:
    """The K superpixels of one frame; distributions are float32 and sum to 1."""

    labels: NDArray[np.int32]
    """Superpixel of each pixel, [H, W], 0..K-1."""
    semantic: NDArray[np.float32]
    """H, class responses, [K, S]."""
    colour: NDArray[np.float32]
    """C, [K, 96]."""
    texture: NDArray[np.float32]
    """T, [K, 32]."""
    saliency: NDArray[np.float32]
    """Sal in the global view and both croppings, [K, 3, 32]; [K, 0, 32] without saliency."""
    edge_similarity: NDArray[np.float32]
    """E, [K, K] in [0, 1]."""
    band: NDArray[np.uint8]
    """Row of the frame, [K], 1 (top) to 4 (bottom)."""
    width: NDArray[np.float32]
    """Columns that it spans, as a share of the frame's, [K]."""
    area: NDArray[np.int64]
    """Pixels, [K]."""

    def save(self, path: Path) -> None:
        """Write the features as one .npz file, which appears whole or not at all.

        Semantics and E, the two large ones, are kept in half precision.
        """
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays |= {name: arrays[name].astype(np.float16) for name in ("semantic", "edge_similarity")}
        with whole_file(path) as temporary:
            np.savez(temporary, **arrays)

    @staticmethod
    def load_labels(path: Path) -> NDArray[np.int32]:
        """Read the superpixel of each pixel alone, int32 [H, W], from what `save` wrote."""
        with np.load(path) as arrays:
            return arrays["labels"]

    @classmethod
    def load(cls, path: Path) -> "RegionFeatures":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            content = {field.name: arrays[field.name] for field in fields(cls)}
        content |= {name: content[name].astype(np.float32) for name in ("semantic", "edge_similarity")}
        return cls(**content)


def region_features(
    frame: NDArray[np.uint8],
    activation: ClassActivation,
    superpixel_settings: SuperpixelSettings,
    cam: CamSettings,
    saliency_maps: SaliencyMaps,
) -> RegionFeatures:
    """Describe one frame, uint8 [H, W, 3], RGB."""
    lab = rgb_to_lab(frame)
    labels = superpixels(frame, superpixel_settings)
    count = int(labels.max()) + 1
    return RegionFeatures(
        labels=labels,
        semantic=semantic(frame, labels, count, activation, cam),
        colour=colour(lab, labels, count),
        texture=texture(lab, labels, count),
        saliency=saliency(frame, lab, labels, count, saliency_maps),
        edge_similarity=edge_similarity(edge_map(lab), labels, count),
        band=bands(labels, count),
        width=widths(labels, count),
        area=np.bincount(labels.ravel(), minlength=count),
    )
