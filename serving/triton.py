"""`config.pbtxt` beside a model in `model_store/`: what Triton needs to know of an exported file.

The layout `<name>/<version>/model.onnx` is Triton's; OpenVINO Model Server and ONNX Runtime Server read it, too, and
have no use for this file. The fields are those of Triton's model_config.proto.
"""

from pathlib import Path

from serving.errors import InputError
from serving.files import whole_file
from serving.metadata import ModelMetadata
from serving.model import Model, name_and_version

MAX_BATCH = 8
"""Frames that Triton may put into one inference."""
QUEUE_MICROSECONDS = 1000
"""How long it waits for a batch to fill."""


def config_text(name: str, metadata: ModelMetadata) -> str:
    """Return the configuration of a model of a name, in protobuf's text format."""
    height, width = metadata.input_size
    outputs = ",\n".join(
        f'  {{ name: "{output}" data_type: TYPE_UINT8 dims: [ {height}, {width} ] }}'
        for output in ("class_ids", "confidence")
    )
    return f"""\
# Made from the file's metadata. Its classes, by class id: {", ".join(info.name for info in metadata.classes)}
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
  {{ name: "frames" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }}
]
output [
{outputs}
]
dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_MICROSECONDS} }}
version_policy {{ latest {{ num_versions: 1 }} }}
"""


def write_config(model: Path) -> Path:
    """Write `config.pbtxt` for a file of `model_store/`; return where.

    Raises
    ------
    InputError
        If the file does not lie as `<name>/<version>/model.onnx`, or is none that `onepixel export` wrote.
    """
    name, version = name_and_version(model)
    if model.name != "model.onnx" or model.absolute().parent.name != version:
        raise InputError(f"{model}: does not lie as <name>/<version>/model.onnx, which Triton reads")
    path = model.absolute().parents[1] / "config.pbtxt"
    with whole_file(path) as temporary:
        temporary.write_text(config_text(name, Model.load(model).metadata), "utf-8")
    return path
