"""Gates that look at the candidate's file alone: whether it loads, computes, and says what it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from serving.errors import InputError
from serving.frames import resize_frame
from serving.model import Model
from serving.registry import LEAST_GOLDEN_AGREEMENT, check_digest, check_golden
from serving.settings import EngineSettings
from training.configuration import read_settings
from training.export.export import NEAR_TIE, differences
from training.promotion.gate import Gate
from training.promotion.registry import Downloaded
from training.segmentation.prediction import Segmenter
from training.segmentation.trained import trained_network
from training.taxonomy import Taxonomy

PARITY = 8
"""Frames on which file and network are compared."""
LEAST_PARITY = {"fp32": 0.9999, "fp16": 0.995, "int8": 0.97}
"""Share of pixels on which a file of each precision must answer as its network does. What rounding to 8 bits is worth
to the masks is said by the mean IoU, not by this. At fp32 those that differ must be near ties besides."""


def loads(candidate: Downloaded, engine: EngineSettings) -> tuple[Gate, Model | None]:
    """Ask whether the file is the registered one, a sound ONNX file, and keeps the contract; return the model, too."""
    try:
        check_digest(candidate.folder, candidate.version)
        onnx.checker.check_model(candidate.model, full_check=True)
        model = Model.load(
            candidate.model, name=candidate.version.name, version=candidate.version.version, settings=engine
        )
    except (InputError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Gate("loads", False, None, None, str(error).split("\n")[0]), None
    return Gate("loads", True, None, None, f"sha256 {model.digest[:12]}, opset and shapes are sound"), model


def finite(path: Path) -> Gate:
    """Ask whether all weights are numbers."""
    wrong = 0
    for tensor in onnx.load(path).graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating):
            wrong += int((~np.isfinite(values)).sum())
    message = "all weights are finite" if not wrong else f"{wrong} weights are NaN or infinite"
    return Gate("finite", wrong == 0, wrong, 0, message)


def classes(model: Model, taxonomy: Taxonomy, champion: Model | None) -> Gate:
    """Ask whether the file answers the champion's classes, or with no champion the data set's."""
    have = [info.name for info in model.metadata.classes]
    want = [info.name for info in champion.metadata.classes] if champion is not None else list(taxonomy.names)
    if have == want:
        return Gate("classes", True, len(have), len(want), f"{len(have)} classes, as they should be")
    places = [number for number, names in enumerate(zip(have, want, strict=False)) if names[0] != names[1]]
    first = places[0] if places else min(len(have), len(want))
    return Gate(
        "classes",
        False,
        len(have),
        len(want),
        f"class {first} is {have[first : first + 1] or 'missing'}, should be {want[first : first + 1] or 'none'}",
    )


def golden(candidate: Downloaded, model: Model) -> Gate:
    """Ask whether the file answers its golden frame as it did where it was made."""
    try:
        if candidate.golden[0] is None:
            raise InputError(f"{model.name} version {model.version}: holds no golden frame and mask")
        agreement = check_golden(candidate.folder, model)
    except InputError as error:
        return Gate("golden", False, None, LEAST_GOLDEN_AGREEMENT, str(error))
    return Gate("golden", True, agreement, LEAST_GOLDEN_AGREEMENT, f"{agreement:.2%} of the golden frame as before")


def provenance(model: Model, has_run: bool) -> Gate:
    """Ask whether the file says where it comes from, and MLflow knows that run."""
    missing = []
    if not has_run:
        missing.append(f"MLflow here knows no run '{model.metadata.mlflow_run_id}': train with the same tracking URI")
    if "val/miou_class" not in model.metadata.metrics:
        missing.append("no val/miou_class among its metrics")
    message = "; ".join(missing) or f"run {model.metadata.mlflow_run_id}, data set and pixels by digest"
    return Gate("provenance", not missing, None, None, message)


def size(path: Path, most: float) -> Gate:
    """Ask whether the file is small enough, MiB."""
    mib = path.stat().st_size / 2**20
    return Gate("size", mib <= most, round(mib, 2), most, f"{mib:.1f} MiB of {most:g}")


def parity(candidate: Downloaded, model: Model, frames: Sequence[NDArray[np.uint8]]) -> Gate:
    """Ask whether the file answers as the network from which it was exported; not where that was not registered."""
    if candidate.training is None:
        return Gate("parity", None, None, None, "registered without its network")
    settings = read_settings(candidate.training / "settings.yaml")
    network = trained_network(candidate.training / "network.safetensors", settings, len(model.metadata.classes))
    segmenter = Segmenter(network.cpu().eval(), model.input_size)
    resized = [np.asarray(resize_frame(frame, *model.input_size)) for frame in frames]
    different, widest = differences(model, segmenter, resized)
    agreement = 1 - different / (len(resized) * model.input_size[0] * model.input_size[1])
    precision = model.metadata.precision
    passed = agreement >= LEAST_PARITY[precision] and (precision != "fp32" or widest < NEAR_TIE)
    message = f"{agreement:.3%} of the pixels as the network"
    if different:
        message += f"; where they differ its two best classes are up to {widest:.2g} apart"
    return Gate("parity", passed, agreement, LEAST_PARITY[precision], message)
