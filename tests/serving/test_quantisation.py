import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.benchmarks.tiny_model import tiny_metadata, tiny_model
from serving.errors import InputError
from serving.frames import Pixels
from serving.model import Model
from serving.quantisation import quantise


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The tiny model's contract kept by two convolutions that change nothing; the second is the network's body."""
    metadata = tiny_metadata(24, 32)
    identity = np.eye(3, dtype=np.float32)[:, :, None, None]
    weights = [numpy_helper.from_array(identity, name) for name in ("stem", "body")]
    channels = numpy_helper.from_array(np.array([1]), "channels")
    batch: list[str | int | None] = ["N", 24, 32]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["planes", "stem"], ["first"], name="first"),
            helper.make_node("Conv", ["first", "body"], ["second"], name="second"),
            helper.make_node("ArgMax", ["second"], ["best"], axis=1, keepdims=0),
            helper.make_node("Cast", ["best"], ["class_ids"], to=TensorProto.UINT8),
            helper.make_node("ReduceMax", ["second", "channels"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["confidence"], to=TensorProto.UINT8),
        ],
        "network",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [*batch, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, batch) for name in ("class_ids", "confidence")],
        [*weights, channels],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata.to_properties() | {"owner": "the test"})
    path = tmp_path / "source.onnx"
    onnx.save_model(model, path)
    return path


@pytest.fixture
def ramp() -> Pixels:
    """All values from 0 to 255, so that a step of int8 is 1 and every value is kept."""
    values = np.random.default_rng(0).permutation(24 * 32 * 3) % 256
    return values.astype(np.uint8).reshape(24, 32, 3)


def test_the_body_is_quantised_and_the_file_says_from_what(source: Path, ramp: Pixels, tmp_path: Path) -> None:
    out = tmp_path / "out" / "body.int8.onnx"
    quantise(source, [ramp], out)
    weights = {node.name: node.input[1] for node in onnx.load(out).graph.node if node.op_type == "Conv"}
    assert weights == {"first": "stem", "second": "body_DequantizeLinear_Output"}
    plain, model = Model.load(source), Model.load(out)
    assert (model.metadata.precision, model.metadata.source_digest) == ("int8", plain.digest)
    assert model.metadata.classes == plain.metadata.classes and model.metadata.metrics == plain.metadata.metrics
    assert model.properties["owner"] == "the test"
    for answer in (plain.infer(ramp[None]), model.infer(ramp[None])):
        assert np.array_equal(answer[0][0], ramp.argmax(axis=2)) and np.array_equal(answer[1][0], ramp.max(axis=2))


def test_only_fp32_is_quantised(source: Path, ramp: Pixels, tmp_path: Path) -> None:
    quantise(source, [ramp], tmp_path / "once.onnx")
    with pytest.raises(InputError, match=r"once\.onnx: is in int8; only an fp32 file is quantised"):
        quantise(tmp_path / "once.onnx", [ramp], tmp_path / "twice.onnx")
    assert not (tmp_path / "twice.onnx").exists()


def test_an_exported_file_names_no_source() -> None:
    assert "source_digest" not in str(onnx.load_from_string(tiny_model(24, 32)).metadata_props)


def test_without_onnx_the_error_says_what_to_install(
    source: Path, ramp: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="int8 needs the package 'onnx'"):
        quantise(source, [ramp], tmp_path / "out.onnx")
