"""The self-describing ONNX file: everything between a frame's bytes and its mask, checked against the network first.

torch has two exporters, its current one (dynamo) and an older one (TorchScript). Which of them writes a network's file
is decided by parity: the current one's file is taken if no pixel of the verification frames differs from the network's
masks; otherwise the other one is tried, too, and the file with fewer differences is taken. The opset is 18, the current
exporter's native one, which every runtime since ONNX Runtime 1.14 reads; a higher one would bring no operator that
these graphs need.
"""

import copy
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from serving.errors import InputError
from serving.files import whole_file
from serving.metadata import ClassDescription, ModelMetadata
from serving.model import Model
from training.segmentation.networks import DeepLab
from training.segmentation.prediction import Segmenter
from training.taxonomy import Taxonomy

OPSET = 18
EXPORTERS = ("dynamo", "torchscript")
"""torch's, by the order in which they are tried."""
LEAST_AGREEMENT = 0.9999
"""Of the masks of file and network: the least share of equal pixels."""
NEAR_TIE = 1e-3
"""Where they differ, the two most probable classes must be closer than this."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A verified file."""

    path: Path
    """Where it is."""
    digest: str
    """sha256 of its bytes, hexadecimal."""
    agreement: float
    """Share of the verification frames' pixels on which file and network answer the same class."""
    disagreements: int
    """Pixels on which they do not; near ties, all of them."""
    exporter: str
    """Which of `EXPORTERS` wrote it."""


def export_onnx(
    network: DeepLab, metadata: ModelMetadata, path: Path, verify_frames: Sequence[NDArray[np.uint8]]
) -> Export:
    """Write a network as the ONNX file that DESIGN.md promises, once it is known to answer as the network does.

    Parameters
    ----------
    network
        Put into evaluation mode.
    metadata
        Its `input_size` becomes the graph's height and width.
    path
        The file. It appears under this name whole and verified, or not at all.
    verify_frames
        Frames of the input size, uint8 [H, W, 3], at least one: real ones, since noise has few near ties.

    Returns
    -------
    Export
        The file and how it was verified.

    Raises
    ------
    InputError
        If the metadata does not fit the network, a verification frame is of another size, or the file does not
        answer as the network does.
    """
    if len(metadata.classes) != network.classes:
        raise InputError(
            f"{path}: the metadata names {len(metadata.classes)} classes, the network has {network.classes}"
        )
    if len(verify_frames) == 0:
        raise InputError(f"{path}: an export needs at least one frame to be verified on")
    for index, frame in enumerate(verify_frames):
        if frame.shape != (*metadata.input_size, 3):
            raise InputError(
                f"{path}: verification frame {index} is {frame.shape}, the network takes {(*metadata.input_size, 3)}"
            )
    segmenter = Segmenter(network, metadata.input_size)
    with whole_file(path) as temporary:
        exporter = _write_best(segmenter, metadata, temporary, verify_frames)
        model = Model.load(temporary)
        agreement, disagreements = verify(model, segmenter, verify_frames)
    return Export(path=path, digest=model.digest, agreement=agreement, disagreements=disagreements, exporter=exporter)


def _write_best(segmenter: Segmenter, metadata: ModelMetadata, path: Path, frames: Sequence[NDArray[np.uint8]]) -> str:
    """Write the file of the exporter whose masks differ least from the network's; return which."""
    fewest, best, errors = None, "", []
    for exporter in EXPORTERS:
        trial = path.with_name(f"{path.stem}.{exporter}{path.suffix}")
        try:
            onnx.save_model(build_model(segmenter, metadata, exporter), trial)
            different, _ = differences(Model.load(trial), segmenter, frames)
            if fewest is None or different < fewest:
                fewest, best = different, exporter
                trial.replace(path)
        except Exception as error:  # an exporter that does not know the network has many ways to say so
            errors.append(f"{exporter}: {error}")
        finally:
            trial.unlink(missing_ok=True)
        if fewest == 0:
            break
    if not best:
        raise InputError(f"{path}: no exporter can write this network; " + "; ".join(errors))
    return best


def describe_classes(taxonomy: Taxonomy) -> tuple[ClassDescription, ...]:
    """Return the classes of a taxonomy as the file names them."""
    return tuple(
        ClassDescription(id=number, name=info.name, category=info.category, colour=info.colour)
        for number, info in enumerate(taxonomy.classes)
    )


def build_model(segmenter: Segmenter, metadata: ModelMetadata, exporter: str = EXPORTERS[0]) -> onnx.ModelProto:
    """Convert a segmenter to an ONNX model with metadata, checked in full and with inferred shapes, by one exporter.

    Input `frames` uint8 [N, H, W, 3], outputs `class_ids` and `confidence` uint8 [N, H, W]; N is free.
    """
    segmenter = copy.deepcopy(segmenter)
    for module in segmenter.modules():
        if isinstance(module, nn.ReLU | nn.Hardtanh):
            module.inplace = False  # the same graph; the exporter takes twice as long over in-place ones
    example = torch.zeros(2, *segmenter.input_size, 3, dtype=torch.uint8, device=segmenter.mean.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        model = _by_dynamo(segmenter, example) if exporter == "dynamo" else _by_torchscript(segmenter, example)
    for node in model.graph.node:
        del node.metadata_props[:]  # the exporter's notes on each node's origin: a third of a small file
    onnx.helper.set_model_props(model, metadata.to_properties())
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _by_dynamo(segmenter: Segmenter, example: torch.Tensor) -> onnx.ModelProto:
    program = torch.onnx.export(
        segmenter,
        (example,),
        input_names=["frames"],
        output_names=["class_ids", "confidence"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export answered no program")
    return program.model_proto


def _by_torchscript(segmenter: Segmenter, example: torch.Tensor) -> onnx.ModelProto:
    content = io.BytesIO()
    torch.onnx.export(
        segmenter,
        (example,),
        content,  # type: ignore[arg-type]
        input_names=["frames"],
        output_names=["class_ids", "confidence"],
        dynamic_axes={name: {0: "N"} for name in ("frames", "class_ids", "confidence")},
        opset_version=OPSET,
        dynamo=False,
        verbose=False,
    )
    return onnx.load_from_string(content.getvalue())


def verify(model: Model, segmenter: Segmenter, frames: Sequence[NDArray[np.uint8]]) -> tuple[float, int]:
    """Compare a file's masks with its network's.

    Parameters
    ----------
    model
        The file as the server loads it.
    segmenter
        What it was made from.
    frames
        uint8 [H, W, 3] of the input size each.

    Returns
    -------
    agreement
        Share of pixels of the same class.
    disagreements
        The other pixels' number.

    Raises
    ------
    InputError
        If the agreement is below 0.9999, or a pixel differs where the network's two most probable classes are 0.001
        or more apart.
    """
    disagreements, widest = differences(model, segmenter, frames)
    agreement = 1 - disagreements / sum(frame.shape[0] * frame.shape[1] for frame in frames)
    if agreement < LEAST_AGREEMENT or widest >= NEAR_TIE:
        raise InputError(
            f"the ONNX file does not answer as its network: {disagreements} pixels differ (agreement {agreement:.6f}, "
            f"needed {LEAST_AGREEMENT}), at probabilities up to {widest:.2g} apart (allowed {NEAR_TIE}); not written"
        )
    return agreement, disagreements


def differences(model: Model, segmenter: Segmenter, frames: Sequence[NDArray[np.uint8]]) -> tuple[int, float]:
    """Count the pixels that a file answers otherwise than its network.

    Parameters
    ----------
    model, segmenter, frames
        As of `verify`.

    Returns
    -------
    disagreements
        How many.
    widest
        How far apart the network's two most probable classes are at most, where they are.
    """
    disagreements, widest = 0, 0.0
    for frame in frames:
        answered, _ = model.infer(frame[None])
        with torch.inference_mode():
            probabilities = segmenter.logits(torch.from_numpy(frame[None].copy()).to(segmenter.mean.device)).softmax(1)
        best, expected = (tensor.cpu().numpy() for tensor in probabilities.topk(2, dim=1))
        different = answered != expected[:, 0]
        disagreements += int(different.sum())
        widest = max(widest, float((best[:, 0] - best[:, 1])[different].max(initial=0)))
    return disagreements, widest
