import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.benchmarks.tiny_model import tiny_model
from serving.errors import InputError
from serving.frames import Pixels
from serving.model import Model


def test_a_model_knows_what_it_is(model: Model, model_path: Path) -> None:
    assert (model.name, model.version, model.engine.provider) == ("tiny", "1", "CPUExecutionProvider")
    assert model.digest == hashlib.sha256(model_path.read_bytes()).hexdigest()
    assert model.input_size == (24, 32)
    assert [description.name for description in model.metadata.classes] == ["red", "green", "blue"]
    assert model.properties["onepixel.precision"] == '"fp32"'


def test_name_and_version_by_the_store_layout(tmp_path: Path, model_path: Path) -> None:
    path = tmp_path / "streets" / "12" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(model_path.read_bytes())
    assert (Model.load(path).name, Model.load(path).version) == ("streets", "12")
    named = Model.load(path, name="other", version="3")
    assert (named.name, named.version) == ("other", "3")


def test_masks_by_hand(model: Model, frame: Pixels) -> None:
    small = frame[::2, ::2]
    class_ids, confidence = model.infer(np.stack([small, small[::-1]]))
    assert np.array_equal(class_ids[0], small.argmax(axis=2))
    assert np.array_equal(confidence[1], small[::-1].max(axis=2))
    mask, confidence = model.segment(frame)
    assert np.array_equal(mask, frame.argmax(axis=2))
    assert np.array_equal(confidence, frame.max(axis=2))
    assert model.segment(frame[:5, :7])[0].shape == (5, 7)
    assert np.array_equal(model.segment(frame[8:32, 8:40])[0], frame[8:32, 8:40].argmax(axis=2))  # rows apart


def test_frames_of_another_kind_are_refused(model: Model, frame: Pixels) -> None:
    with pytest.raises(InputError, match=r"uint8 \[1, 48, 64, 3\]; the model 'tiny' takes uint8 \[N, 24, 32, 3\]"):
        model.infer(frame[None])
    with pytest.raises(InputError, match="float32"):
        model.infer(np.zeros((1, 24, 32, 3), np.float32))  # type: ignore[arg-type]
    for wrong in (frame[:, :, 0], frame[:0]):
        with pytest.raises(InputError, match="should be uint8"):
            model.segment(wrong)


def _rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "image"
    model.graph.node[0].input[0] = "image"


def _fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _other_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 12
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = 12


def _no_confidence(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def _no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def _other_schema(model: onnx.ModelProto) -> None:
    for entry in model.metadata_props:
        if entry.key == "onepixel.schema_version":
            entry.value = "2"


def _too_few_classes(model: onnx.ModelProto) -> None:
    del model.graph.node[-1].input[:]
    model.graph.node[-1].input.extend(["is_blue", "two", "two"])
    for entry in model.metadata_props:
        if entry.key == "onepixel.classes":
            entry.value = '[{"id": 0, "name": "all", "category": "all", "colour": [0, 0, 0]}]'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_input, r"inputs \['image'\]; should be \['frames'\]"),
        (_fix_batch, "fixed batch of 1"),
        (_other_height, r"\[N, 12, 32, 3\]|12, 32, 3\]; by its metadata it should be .*24, 32, 3"),
        (_no_confidence, "'confidence' is missing"),
        (_no_metadata, "no 'onepixel.*' metadata"),
        (_other_schema, "onepixel.schema_version"),
        (_too_few_classes, "class_ids holds 2, the metadata names 1"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    proto = onnx.load_from_string(tiny_model(24, 32))
    change(proto)
    path = tmp_path / "broken.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=message) as caught:
        Model.load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Model.load(tmp_path / "none.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(InputError, match="not an ONNX file"):
        Model.load(path)
