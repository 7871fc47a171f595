"""From an fp32 ONNX file to one in int8: static, with a scale for each channel of the weights.

ONNX Runtime's own quantiser does it, which needs the package `onnx`; both engines run what it writes. The network's
body is quantised, and what follows it (resizing, softmax, argmax) stays as it is. The first convolution stays too: on
three channels int8 is slower (the shipped model takes 24 ms with it, 20 without).
"""

from collections.abc import Sequence
from pathlib import Path

from serving.errors import InputError
from serving.files import whole_file
from serving.frames import Pixels
from serving.model import Model

QUANTISED = ["Add", "AveragePool", "Clip", "Conv", "MaxPool", "Relu"]
"""Operators of a network's body."""


def quantise(source: Path, frames: Sequence[Pixels], out: Path) -> None:
    """Write the int8 file of an fp32 one.

    Parameters
    ----------
    source
        An exported file in fp32.
    frames
        uint8 [H, W, 3] of its input size, at least one: the ranges of all values are taken from them.
    out
        The file to write. It holds the source's metadata with the precision "int8" and the source's digest.

    Raises
    ------
    InputError
        If the source is not in fp32 or cannot be quantised, or `onnx` is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise InputError("int8 needs the package 'onnx': pip install onnx") from error
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._frames = iter(frames)

        def get_next(self) -> dict[str, Pixels] | None:
            frame = next(self._frames, None)
            return None if frame is None else {"frames": frame[None]}

    described = Model.load(source)
    if described.metadata.precision != "fp32":
        raise InputError(f"{source}: is in {described.metadata.precision}; only an fp32 file is quantised")
    model = onnx.load(source)
    add_pre_process_metadata(model)  # that is, shapes are inferred and batch normalisation is folded, by the export
    metadata = described.metadata.model_copy(update={"precision": "int8", "source_digest": described.digest})
    with whole_file(out) as temporary:
        try:
            quantize_static(
                model,
                temporary,
                Reader(),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=QUANTISED,
                nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "Conv"][:1],
            )
        except Exception as error:  # whatever ONNX Runtime's quantiser does not know
            raise InputError(f"{source}: ONNX Runtime cannot quantise it: {error}") from error
        quantised = onnx.load(temporary)
        onnx.helper.set_model_props(quantised, described.properties | metadata.to_properties())
        onnx.save_model(quantised, temporary)
