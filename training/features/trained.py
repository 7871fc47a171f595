"""What a trained segmentation network makes of the superpixels, joined to their embedding: the graph of a later round.

A network that was trained on the labels of one round tells regions apart that the class activation network does not.
Its last features, averaged into the superpixels, are reduced to a short vector beside the embedding that is there; the
cosine of both together is the weighted mean of the two cosines. Nothing else of a frame's features is computed again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from serving.files import whole_file
from training.datasets import evenly_spaced
from training.datasets.base import Dataset
from training.features.embedding import EmbeddedRegions, EmbeddingBasis, pass_size
from training.features.mosf import region_weights
from training.segmentation.batches import normalise
from training.segmentation.networks import DeepLab
from training.settings import IterationSettings

BASIS_FRAMES = 32
"""Frames, evenly spaced, from which the principal components are found."""


class TrainedRegions:
    """The embedded regions of a data set's frames, described by a trained network as well.

    Parameters
    ----------
    network
        On any device; put into evaluation mode.
    dataset
        The training split.
    features
        The folder that `extract_features` filled.
    folder
        Where what the network adds is kept, one .npy file a frame.
    settings
        `pass_height`, `dimensions` and `weight` are used.
    """

    def __init__(
        self, network: DeepLab, dataset: Dataset, features: Path, folder: Path, settings: IterationSettings
    ) -> None:
        self._network, self._dataset, self._settings = network.eval(), dataset, settings
        self._features, self._folder = features, folder

    def write(self, frame_ids: Sequence[str]) -> None:
        """Describe the frames that are not described yet; a file appears whole or not at all."""
        basis = self._basis(frame_ids)
        for frame_id in tqdm(frame_ids, desc="trained features", unit="frame", disable=None):
            if not self._path(frame_id).exists():
                with whole_file(self._path(frame_id)) as temporary:
                    np.save(temporary, basis.embed([self._describe(frame_id)]).astype(np.float16))

    def load(self, frame_id: str) -> EmbeddedRegions:
        """Return a frame's regions with the joined embedding, rows of length 1."""
        regions = EmbeddedRegions.load(self._features / f"{frame_id}.npz")
        added = np.load(self._path(frame_id)).astype(np.float32)
        return replace(regions, embedding=joined(regions.embedding, added, self._settings.weight))

    def _path(self, frame_id: str) -> Path:
        return self._folder / f"{frame_id}.npy"

    def _basis(self, frame_ids: Sequence[str]) -> EmbeddingBasis:
        path = self._folder / "basis.safetensors"
        if not path.exists():
            samples = [[self._describe(frame_id)] for frame_id in evenly_spaced(frame_ids, BASIS_FRAMES)]
            dimensions = self._settings.dimensions
            EmbeddingBasis.fit(samples, [1.0], dimensions, dimensions).save(path)
        return EmbeddingBasis.load(path)

    @torch.inference_mode()
    def _describe(self, frame_id: str) -> NDArray[np.float32]:
        """Return the mean of the network's last features over each superpixel, float32 [K, D]."""
        regions = EmbeddedRegions.load(self._features / f"{frame_id}.npz")
        frame = self._dataset.frame(frame_id)
        device = next(self._network.parameters()).device
        image = torch.from_numpy(normalise(frame)).to(device).permute(2, 0, 1)[None]
        size = pass_size(frame.shape[0], frame.shape[1], self._settings.pass_height)
        resized = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=True)
        features = self._network.backbone(resized)[0].permute(1, 2, 0).float().cpu().numpy()
        grid = (features.shape[0], features.shape[1])
        return region_weights(regions.labels, len(regions.area), (1, 1), grid) @ features.reshape(-1, features.shape[2])


def joined(first: NDArray[np.float32], second: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return embeddings whose cosine is the mean of two cosines, the second one weighing `weight`.

    Parameters
    ----------
    first, second
        float32 [K, D] and [K, E], rows of length 1.
    weight
        > 0.

    Returns
    -------
    float32 [K, D + E]
        Rows of length 1.
    """
    share = np.sqrt(np.array([1, weight], np.float32) / (1 + weight))
    return np.concatenate([share[0] * first, share[1] * second], axis=1)
