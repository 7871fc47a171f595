"""An exported file in fewer bits, each kind behind its own gate: fp16 by agreement, int8 by mean IoU.

fp16 halves the file and is for GPUs; a CPU computes it in fp32, with casts. int8 is static, with a scale for each
channel of the weights, and its ranges are taken from training frames (`serving.quantisation`). Input and outputs stay
uint8, and the metadata says of which file it was made.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from tqdm import tqdm

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import resize_frame
from serving.metadata import ModelMetadata
from serving.model import Model
from serving.quantisation import quantise
from training.datasets import Dataset
from training.evaluation.metrics import ConfusionMatrix
from training.export.export import export_onnx
from training.segmentation.networks import DeepLab

Precision = Literal["fp32", "fp16", "int8"]
LEAST_AGREEMENT = 0.995
"""Of fp16 with fp32: share of equal pixels."""
MOST_MIOU_LOSS = 0.005
"""Of int8 to fp32: class mean IoU on labelled frames; without labels, on fp32's own masks taken for the truth."""
CALIBRATION_FRAMES = 64
"""Training frames from which int8 takes its ranges."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A file in fewer bits that passed its gate."""

    path: Path
    """Where it is."""
    digest: str
    """sha256 of its bytes, hexadecimal."""
    agreement: float
    """Share of pixels that it answers as the fp32 file."""
    miou_difference: float
    """Class mean IoU less the fp32 file's."""
    truth_seen: bool
    """Whether labelled frames were there to say so."""


def export_precision(
    network: DeepLab,
    metadata: ModelMetadata,
    path: Path,
    verify_frames: Sequence[NDArray[np.uint8]],
    precision: Precision,
    dataset: Dataset,
    frame_ids: Sequence[str],
) -> dict[str, Any]:
    """Write a network as an ONNX file of a precision, each behind its gate.

    Parameters
    ----------
    network, metadata, path, verify_frames
        As of `export_onnx`.
    precision
        Of the arithmetic.
    dataset, frame_ids
        As of `convert`, for other precisions than fp32.

    Returns
    -------
    The report: `onnx`, `onnx_digest`, `onnx_agreement`, `exporter`, and of other precisions `miou_difference` and
    `truth_seen`.

    Raises
    ------
    InputError
        If a gate refuses the file; it is not written then.
    """
    if precision == "fp32":
        whole = export_onnx(network, metadata, path, verify_frames)
        report = {"onnx": str(path), "onnx_digest": whole.digest, "onnx_agreement": whole.agreement}
        return report | {"exporter": whole.exporter}
    with tempfile.TemporaryDirectory() as folder:
        whole = export_onnx(network, metadata, Path(folder) / "fp32.onnx", verify_frames)
        less = convert(whole.path, precision, path, dataset, frame_ids)
    report = {"onnx": str(path), "onnx_digest": less.digest, "onnx_agreement": less.agreement}
    judged = {"miou_difference": less.miou_difference, "truth_seen": less.truth_seen}
    return report | judged | {"exporter": whole.exporter}


def convert(source: Path, precision: Precision, out: Path, dataset: Dataset, frame_ids: Sequence[str]) -> Converted:
    """Write an fp32 file in another precision, once its gate lets it pass.

    Parameters
    ----------
    source
        The exported file, in fp32.
    precision
        `fp16` or `int8`.
    out
        The file to write; it appears whole and judged, or not at all.
    dataset
        The training split: for ranges, and to judge by.
    frame_ids
        Its frames that are used; int8 takes its ranges from the even ones and is judged on the odd ones.

    Raises
    ------
    InputError
        If the file cannot be converted or its gate refuses it; says by how much.
    """
    with whole_file(out) as temporary:
        converted, refused = try_precision(source, precision, temporary, dataset, frame_ids)
        if refused:
            raise InputError(f"{out}: {refused}; not written")
    return replace(converted, path=out)


def try_precision(
    source: Path, precision: Precision, out: Path, dataset: Dataset, frame_ids: Sequence[str]
) -> tuple[Converted, str | None]:
    """Write the file whatever its gate says; return its figures, and why the gate refuses it or None."""
    reference, judged = Model.load(source), list(frame_ids)
    if precision == "fp16":
        half(source, out)
    else:
        ranges, judged = judged[::2], judged[1::2] or judged
        quantise(source, [np.asarray(resize_frame(dataset.frame(one), *reference.input_size)) for one in ranges], out)
    model = Model.load(out)
    agreement, difference = _compare(model, reference, dataset, judged)
    refused = None
    if precision == "fp16" and agreement < LEAST_AGREEMENT:
        refused = f"fp16 answers {agreement:.3%} of the pixels as fp32, needed {LEAST_AGREEMENT:.1%}"
    if precision == "int8" and not difference >= -MOST_MIOU_LOSS:  # NaN, of frames without a counted pixel, is refused
        refused = f"int8 loses {-difference:.2%} of mean IoU, {MOST_MIOU_LOSS:.1%} are allowed"
    seen = dataset.has_labels
    return (
        Converted(path=out, digest=model.digest, agreement=agreement, miou_difference=difference, truth_seen=seen),
        refused,
    )


def half(source: Path, out: Path) -> None:
    """Write an fp32 file's weights and arithmetic in fp16, with ONNX Runtime's own converter.

    Raises
    ------
    InputError
        If the file is not in fp32, or the converter does not know an operator.
    """
    described = Model.load(source)
    if described.metadata.precision != "fp32":
        raise InputError(f"{source}: is in {described.metadata.precision}; only an fp32 file is converted")
    try:
        converted = convert_float_to_float16(onnx.load(source), keep_io_types=True, op_block_list=[])
        metadata = described.metadata.model_copy(update={"precision": "fp16", "source_digest": described.digest})
        onnx.helper.set_model_props(converted, described.properties | metadata.to_properties())
        onnx.checker.check_model(converted, full_check=True)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"{source}: cannot be converted to fp16: {error}") from error
    onnx.save_model(converted, out)


def _compare(model: Model, reference: Model, dataset: Dataset, frame_ids: Sequence[str]) -> tuple[float, float]:
    """Return the share of equal pixels, and the class mean IoU less the reference's."""
    equal: list[float] = []
    mine, theirs = ConfusionMatrix(dataset.taxonomy), ConfusionMatrix(dataset.taxonomy)
    for frame_id in tqdm(frame_ids, desc="gate", unit="frame", delay=2, disable=None):
        frame: NDArray[np.uint8] = dataset.frame(frame_id)
        answered, expected = model.segment(frame)[0], reference.segment(frame)[0]
        equal.append(float((answered == expected).mean()))
        truth = dataset.labels(frame_id) if dataset.has_labels else expected
        mine.update(truth, answered)
        theirs.update(truth, expected)
    return float(np.mean(equal)), mine.miou_class() - theirs.miou_class()
