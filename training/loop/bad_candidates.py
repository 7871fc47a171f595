"""Files that must never be promoted, made from one that may: each is wrong in one way, and says nothing of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.files import whole_file
from serving.metadata import ModelMetadata
from training.taxonomy import IGNORED

WORK = 8
"""Convolutions of 64 channels over the whole input that the slow file adds; each costs about twice what
DeepLab on MobileNetV2 does."""


def shuffled_classes(content: bytes) -> bytes:
    """Return the model with its answers' classes moved on by one, and the names left where they were."""
    model = onnx.load_from_string(content)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    classes = len(ModelMetadata.from_properties(properties, "the good file").classes)
    moved = np.arange(IGNORED + 1, dtype=np.uint8)
    moved[:classes] = np.roll(moved[:classes], 1)
    _rename_output(model, "class_ids", "unshuffled")
    model.graph.initializer.append(numpy_helper.from_array(moved, "moved"))
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["unshuffled"], ["unshuffled_index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["moved", "unshuffled_index"], ["class_ids"]),
        ]
    )
    return model.SerializeToString()


def renamed(content: bytes) -> bytes:
    """Return the model under another producer's name: other bytes that are as good, to be cut off in the store."""
    model = onnx.load_from_string(content)
    model.producer_version = "to be cut off"
    return model.SerializeToString()


def cut_off(store: Path, digest: str) -> None:
    """Take the second half from a file of a registry's store, as a full disk would.

    Parameters
    ----------
    store
        The folder of the artefacts.
    digest
        sha256 of the file.
    """
    for path in store.rglob("model.onnx"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == digest:
            path.write_bytes(content[: len(content) // 2])
            return
    raise FileNotFoundError(f"{store}: no model.onnx of sha256 {digest}")


def not_a_number(content: bytes) -> bytes:
    """Return the model with NaN for one weight of each convolution, as a training that diverged leaves it."""
    model = onnx.load_from_string(content)
    for number, tensor in enumerate(model.graph.initializer):
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] = np.nan
            model.graph.initializer[number].CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def ten_times_slower(content: bytes) -> bytes:
    """Return the model with work before its answer that leaves the answer as it was."""
    model = onnx.load_from_string(content)
    weights = np.zeros((64, 64, 3, 3), np.float32)
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(weights[:, :3], "work_first"),
            numpy_helper.from_array(weights, "work_next"),
            numpy_helper.from_array(np.zeros((), np.float32), "work_none"),
        ]
    )
    nodes = [
        helper.make_node("Cast", ["frames"], ["work_frames"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["work_frames"], ["work_channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["work_channels", "work_first"], ["work_0"], pads=[1, 1, 1, 1]),
    ]
    for number in range(WORK):
        nodes.append(
            helper.make_node("Conv", [f"work_{number}", "work_next"], [f"work_{number + 1}"], pads=[1, 1, 1, 1])
        )
    nodes += [
        helper.make_node("ReduceMax", [f"work_{WORK}"], ["work_done"], keepdims=0),
        helper.make_node("Mul", ["work_done", "work_none"], ["work_zero"]),
        helper.make_node("Cast", ["work_zero"], ["work_nothing"], to=TensorProto.UINT8),
        helper.make_node("Add", ["early_confidence", "work_nothing"], ["confidence"]),
    ]
    _rename_output(model, "confidence", "early_confidence")
    graph.node.extend(nodes)
    return model.SerializeToString()


def _rename_output(model: onnx.ModelProto, output: str, name: str) -> None:
    """Give what the graph computes as an output another name, so that the output's is free."""
    for node in model.graph.node:
        node.output[:] = [name if found == output else found for found in node.output]
        node.input[:] = [name if found == output else found for found in node.input]


TRUNCATED = "truncated"
BAD: dict[str, Callable[[bytes], bytes]] = {
    "shuffled_classes": shuffled_classes,
    TRUNCATED: renamed,
    "nan_weights": not_a_number,
    "ten_times_slower": ten_times_slower,
}
"""How each is made from a good file's bytes; the truncated one is whole until it is registered."""


def write_bad_candidates(good: Path, folder: Path) -> dict[str, Path]:
    """Write each bad candidate as `<folder>/<name>.onnx`; return their paths by name."""
    content = good.read_bytes()
    paths = {}
    for name, spoil in BAD.items():
        paths[name] = folder / f"{name}.onnx"
        with whole_file(paths[name]) as temporary:
            temporary.write_bytes(spoil(content))
    return paths
