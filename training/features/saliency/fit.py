"""Fitting a DRFI forest on images and masks, and its report beside the unsupervised maps.

The forest is fitted on the regions of one part of the images, the weights of its levels are learnt on another, and a
third is held out for the report.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import sklearn
from numpy.typing import NDArray
from scipy.optimize import nnls
from skimage.color import rgb2lab
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from serving.errors import InputError
from training.datasets.salient import Scene
from training.features.saliency.background import robust_background_map
from training.features.saliency.drfi import cut_up, drfi_maps, piece_saliency
from training.features.saliency.forest import Fitting, Forest, ForestMetadata, SegmentationSettings
from training.features.saliency.geodesic import geodesic_map
from training.features.saliency.writing import forest_model
from training.features.superpixels import superpixels
from training.settings.method import SuperpixelSettings

TREES = 50
"""Of 20, 50 and 100 with 256 leaves: area .9625, .9642, .9629 on 100 scenes; the file grows with them."""
LEAVES = 512
"""Most leaves of a tree. Of 64, 128, 256 and 512: .9621, .9622, .9642, .9685; 512 make a file of 0.6 MB."""
LEAST_REGIONS = 5
"""In a leaf."""
TRIED = 15
"""Features that are tried for a split, as in the paper."""
DRAWN = 100_000
"""Most regions that a tree is fitted on, drawn with replacement."""
PURE = 0.8
"""A region is learnt from where this share of it is salient, or is not, as in the paper."""
HELD_OUT = 0.2
"""Share of the images that are held out."""
FUSION = 0.2
"""Share of the rest on which the weights of the levels are learnt."""
LEAST_IMAGES = 5
WHOLE = ((1, 1),)
"""Images are fitted and scored in the view of the whole."""


@dataclass(frozen=True)
class Parts:
    """Images and masks, by what they are for."""

    forest: Sequence[Scene]
    """On whose regions the forest is fitted."""
    fusion: Sequence[Scene]
    """On which the weights of the levels are learnt."""
    held_out: Sequence[Scene]
    """On which it is reported."""


def divide(scenes: Sequence[Scene], seed: int = 0) -> Parts:
    """Divide images and masks at random: a fifth is held out, and of the rest a fifth is for fusion.

    Raises
    ------
    InputError
        If there are too few for three parts.
    """
    count = len(scenes)
    if count < LEAST_IMAGES:
        raise InputError(f"--images: {count} are too few to divide into three parts; give {LEAST_IMAGES} or more")
    order = np.random.default_rng(seed).permutation(count).tolist()
    held_out = round(HELD_OUT * count)
    fusion = held_out + round(FUSION * (count - held_out))
    return Parts(*(_Chosen(scenes, part) for part in (order[fusion:], order[held_out:fusion], order[:held_out])))


def fit_forest(parts: Parts, *, source: str, command: str, seed: int = 0) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Fit a forest and measure it.

    Parameters
    ----------
    parts
        Images and masks.
    source, command
        What the images are, and what makes the file, for its metadata.
    seed
        Of the forest. The same inputs give the same file, byte for byte.

    Returns
    -------
    model, report
        The file's content, and its figures: `images`, `fusion_images`, `held_out_images`, `regions`, `trees`,
        `fusion_weights`, `auc` by method, and `seconds` that fitting and measuring took.

    Raises
    ------
    InputError
        If an image or mask is wrong, or the images have no regions of one of the two kinds.
    """
    began = time.monotonic()
    segmentation = SegmentationSettings()
    descriptors, salient = _regions(_bar(parts.forest, "regions"), segmentation)
    regressor = RandomForestRegressor(
        max_features=TRIED,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAST_REGIONS,
        max_samples=min(DRAWN, len(salient)),
        random_state=seed,
        warm_start=True,
    )
    for trees in tqdm(range(1, TREES + 1), desc="forest", unit="tree", disable=None):
        regressor.set_params(n_estimators=trees).fit(descriptors, salient)
    metadata = ForestMetadata(
        segmentation=segmentation,
        fusion_weights=(1 / len(segmentation.levels),) * len(segmentation.levels),
        fitting=Fitting(
            source=source,
            command=command,
            seed=seed,
            images=len(parts.forest),
            fusion_images=len(parts.fusion),
            held_out_images=len(parts.held_out),
            regions=len(salient),
            trees=TREES,
            scikit_learn=sklearn.__version__,
        ),
        auc={},
    )
    fitted = [estimator.tree_ for estimator in regressor.estimators_]
    forest = _forest(fitted, metadata)
    weights = _fusion_weights(_bar(parts.fusion, "fusion"), forest)
    metadata = metadata.model_copy(update={"fusion_weights": weights})
    auc = area_under_curve(_bar(parts.held_out, "held out"), _forest(fitted, metadata))
    metadata = metadata.model_copy(update={"auc": auc})
    fitting = metadata.fitting.model_dump(include={"images", "fusion_images", "held_out_images", "regions", "trees"})
    report = {**fitting, "fusion_weights": weights, "auc": auc, "seconds": round(time.monotonic() - began, 1)}
    return forest_model(fitted, metadata), report


def area_under_curve(scenes: Iterable[Scene], forest: Forest) -> dict[str, float]:
    """Return the area under the ROC curve over an image's pixels, mean over images, by method.

    `drfi` is the forest; `robust_background` (Zhu et al., 2014) and `geodesic` (Wei et al., 2012) need none.
    """
    areas: dict[str, list[float]] = {"drfi": [], "robust_background": [], "geodesic": []}
    for frame, mask in scenes:
        lab = rgb2lab(frame).astype(np.float32)
        labels = superpixels(frame, SuperpixelSettings(count=300))
        count = int(labels.max()) + 1
        maps = {
            "drfi": drfi_maps(frame, forest, WHOLE)[0],
            "robust_background": robust_background_map(lab, labels, count),
            "geodesic": geodesic_map(lab, labels, 1, 1),
        }
        for method, values in maps.items():
            areas[method].append(roc_auc_score(mask.ravel(), values.ravel()))
    return {method: round(float(np.mean(values)), 4) for method, values in areas.items()}


def _regions(
    scenes: Iterable[Scene], segmentation: SegmentationSettings
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the descriptors [R, 93] of all pure regions of all levels, and whether each is salient, [R], 0 or 1."""
    descriptors, salient = [], []
    for frame, mask in scenes:
        pieces = cut_up(frame, segmentation, WHOLE)
        inside = _salient_area(pieces.labels, mask, len(pieces.area))
        for level in pieces.views[0]:
            count = len(level.descriptors)
            share = np.bincount(level.union, inside, count) / np.bincount(level.union, pieces.area, count)
            pure = (share >= PURE) | (share <= 1 - PURE)
            descriptors.append(level.descriptors[pure])
            salient.append((share[pure] >= PURE).astype(np.float64))
    kinds = np.concatenate(salient)
    if kinds.min() == kinds.max():
        raise InputError(
            f"--masks: no region of the images is {'background' if kinds.min() else 'salient'}; "
            "masks must mark things that are larger than a few dozen pixels, and leave some of each image out"
        )
    return np.concatenate(descriptors), kinds


def _fusion_weights(scenes: Iterable[Scene], forest: Forest) -> tuple[float, ...]:
    """Return the weights of the levels by which their sum comes nearest to the masks in squares, none of them negative.

    Pieces of one saliency are weighed by the root of their area, so that the squares are those of the pixels.
    """
    sides, truths = [], []
    for frame, mask in scenes:
        pieces = cut_up(frame, forest.metadata.segmentation, WHOLE)
        inside = _salient_area(pieces.labels, mask, len(pieces.area))
        root = np.sqrt(pieces.area)
        sides.append(piece_saliency(pieces, forest)[0] * root[:, None])
        truths.append(inside / root)
    weights, _ = nnls(np.concatenate(sides).astype(np.float64), np.concatenate(truths))
    return tuple(round(float(weight), 6) for weight in weights)


def _salient_area(labels: NDArray[np.int32], mask: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Return how many pixels of each piece the mask, which may be larger than the pieces' frame, marks."""
    height, width = labels.shape
    rows = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    return np.bincount(labels.ravel(), mask[rows[:, None], columns].ravel(), count).astype(np.float64)


def _forest(trees: Sequence[Any], metadata: ForestMetadata) -> Forest:
    return Forest(forest_model(trees, metadata).SerializeToString(), "the new forest")


def _bar(scenes: Sequence[Scene], what: str) -> Iterable[Scene]:
    return tqdm((scenes[number] for number in range(len(scenes))), what, len(scenes), unit="image", disable=None)


class _Chosen(Sequence[Scene]):
    """Some of the scenes, by their numbers."""

    def __init__(self, scenes: Sequence[Scene], numbers: Sequence[int]) -> None:
        self._scenes, self._numbers = scenes, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, position: int) -> Scene:  # type: ignore[override]
        return self._scenes[self._numbers[position]]
