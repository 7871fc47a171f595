"""The file of a DRFI forest: one ONNX graph that judges regions, and in its metadata all that is needed to use it.

The graph is one TreeEnsemble, run by ONNX Runtime on one thread: for 2,000 regions and 50 trees it was 6 times as fast
as walking all trees at once in numpy, and a third the size of the older TreeEnsembleRegressor.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import InputError
from training.features.saliency.descriptors import DESCRIPTORS

KEY = "onepixel.saliency"
"""The one metadata entry, JSON."""
EMBEDDED = "forest.onnx"
"""The shipped file, beside this one."""

INPUT, OUTPUT = "descriptors", "saliency"
Positive = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SegmentationSettings(_Frozen):
    """How a frame is cut up before its regions are judged."""

    pixels: Positive = 120_000
    """Larger frames are reduced to about this many pixels first, the size of the images that DRFI was made for."""
    scale: Annotated[float, Field(gt=0)] = 100.0
    """Felzenszwalb's k of the fine segmentation."""
    sigma: Annotated[float, Field(ge=0)] = 0.8
    """Deviation of its Gaussian, pixels."""
    minimum_size: Positive = 60
    """Its smallest region, pixels."""
    levels: Annotated[tuple[Positive, ...], Field(min_length=1)] = (128, 64, 32)
    """Most regions of a tile at each level, from fine to coarse. On 100 procedural scenes the area under the ROC curve
    was .9623 with the first level alone, .9649 with two, .9642 with three, .9656 with 16 and 8 besides; three views of
    a frame have about 1,800 regions on these three."""


class Fitting(_Frozen):
    """How a forest was made."""

    source: str
    """The images."""
    command: str
    """What made the file."""
    seed: int
    """Of the split of the images and of the forest."""
    images: Positive
    """Images whose regions the forest was fitted on."""
    fusion_images: Positive
    """Others, on which the weights of the levels were learnt."""
    held_out_images: Positive
    """Others, on which `auc` was measured."""
    regions: Positive
    """Regions that the forest was fitted on."""
    trees: Positive
    """Trees in it."""
    scikit_learn: str
    """Version of scikit-learn."""


class ForestMetadata(_Frozen):
    """What the file says of itself."""

    schema_version: Literal[1] = 1
    """Version of this description and of what the features mean."""
    descriptors: tuple[str, ...] = DESCRIPTORS
    """Names of the features, in order."""
    segmentation: SegmentationSettings
    """The levels."""
    fusion_weights: tuple[float, ...]
    """Weight of each level's saliency in the sum."""
    fitting: Fitting
    """How it was made."""
    auc: dict[str, float]
    """Area under the ROC curve on the held-out images by method, mean over images, fractions."""

    @model_validator(mode="after")
    def _fits(self) -> "ForestMetadata":
        if self.descriptors != DESCRIPTORS:
            raise ValueError("descriptors are not the 93 that this version computes; fit the forest anew")
        if len(self.fusion_weights) != len(self.segmentation.levels):
            raise ValueError(
                f"{len(self.fusion_weights)} fusion_weights for {len(self.segmentation.levels)} levels; "
                "there must be one for each"
            )
        return self


class Forest:
    """A fitted forest, ready to judge regions.

    Parameters
    ----------
    content
        The bytes of an ONNX file that `writing.forest_model` made.
    source
        The file's name, for errors.

    Raises
    ------
    InputError
        If the bytes are anything else, or of another version.
    """

    def __init__(self, content: bytes, source: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; warnings of the optimiser are not the user's
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen kinds, with no base class of their own
            raise InputError(
                f"{source}: not an ONNX file that ONNX Runtime can load: {error}; "
                "give one that `onepixel saliency fit` wrote"
            ) from error
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise InputError(f"{source}: no '{KEY}' metadata; not a file that `onepixel saliency fit` wrote")
        try:
            self.metadata = ForestMetadata.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in (KEY, *first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{source}: metadata field '{field}': {message}") from error

    def predict(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the saliency of regions with these descriptors [R, 93], float32 [R] in [0, 1]."""
        answer: NDArray[np.float32] = self._session.run(None, {INPUT: descriptors})[0]
        return answer[:, 0]


def load_forest(name: str) -> Forest:
    """Return the forest of a file, or the one that ships with onepixel for `embedded`.

    Raises
    ------
    InputError
        If there is no such file, or it is not one that `onepixel saliency fit` wrote.
    """
    if name == "embedded":
        return Forest((files("training.features.saliency") / EMBEDDED).read_bytes(), f"the embedded {EMBEDDED}")
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"saliency.forest: {name} cannot be read: {error.strerror}; "
            "give a file that `onepixel saliency fit` wrote, or 'embedded'"
        ) from error
    return Forest(content, f"saliency.forest: {name}")
