import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torchvision.models import MobileNetV2

import training.export.export
from serving.errors import InputError
from serving.metadata import ClassDescription, DatasetDescription, ModelMetadata
from serving.model import Model
from training.export.export import OPSET, export_onnx
from training.segmentation.networks import DeepLabMobileNetV2
from training.segmentation.prediction import predict

SIZE = (64, 80)


def make_network(seed=0, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = DeepLabMobileNetV2(MobileNetV2(width_mult=0.25), classes, aspp_rates=(1, 2), seed=seed)
    for parameter in network.head.parameters():
        parameter.data.mul_(1000)  # an untrained network ties all classes
    return network


def make_metadata(classes=3):
    return ModelMetadata(
        classes=tuple(ClassDescription(id=i, name=str(i), category="any", colour=(i, 0, 0)) for i in range(classes)),
        input_size=SIZE,
        mlflow_run_id="run",
        dataset=DatasetDescription(name="noise", digest="0" * 64),
        pixels_digest="1" * 64,
        metrics={"val/miou_class": 0.5},
        precision="fp32",
    )


def make_frames(count):
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return export_onnx(make_network(), make_metadata(), tmp_path_factory.mktemp("m") / "model.onnx", make_frames(2))


def test_one_file_that_keeps_the_contract(export):
    assert [file.name for file in export.path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(export.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    session = onnxruntime.InferenceSession(export.path, providers=["CPUExecutionProvider"])
    described = [(value.name, value.type, value.shape) for value in session.get_inputs() + session.get_outputs()]
    assert described == [
        ("frames", "tensor(uint8)", ["N", *SIZE, 3]),
        ("class_ids", "tensor(uint8)", ["N", *SIZE]),
        ("confidence", "tensor(uint8)", ["N", *SIZE]),
    ]


def test_the_result_says_what_was_written(export):
    content = export.path.read_bytes()
    assert export.digest == hashlib.sha256(content).hexdigest()
    assert export.agreement == 1 - export.disagreements / (2 * SIZE[0] * SIZE[1])
    # What logs the file through onnx's own objects must end with the same bytes.
    assert onnx.load(export.path).SerializeToString() == content


def test_the_file_describes_itself(export):
    assert Model.load(export.path).metadata == make_metadata()


def test_any_batch_gives_the_masks_of_single_frames(export):
    model, frames = Model.load(export.path), make_frames(3)
    together = model.infer(frames)
    assert len(np.unique(together[0])) > 1
    for index in range(3):
        for batch, single in zip(together, model.infer(frames[index : index + 1]), strict=True):
            assert np.array_equal(batch[index], single[0])


@pytest.mark.parametrize("size", [SIZE, (50, 100)])
def test_predict_agrees_with_the_served_file(export, size):
    frame = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    served, expected = Model.load(export.path).segment(frame), predict(make_network(), frame, SIZE)
    assert (served[0] == expected.class_ids).mean() > 0.999
    assert np.abs(served[1].astype(int) - expected.confidence.astype(int)).max() <= 1


def test_a_file_that_answers_otherwise_is_not_written(export, tmp_path, monkeypatch):
    monkeypatch.setattr(training.export.export, "build_model", lambda *_: onnx.load(export.path))
    with pytest.raises(InputError, match=r"does not answer as its network: \d+ pixels differ .* not written"):
        export_onnx(make_network(seed=1), make_metadata(), tmp_path / "model.onnx", make_frames(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("classes", "frames", "message"),
    [
        (4, make_frames(1), "the metadata names 4 classes, the network has 3"),
        (3, [], "at least one frame"),
        (3, [np.zeros((8, 8, 3), np.uint8)], r"verification frame 0 is \(8, 8, 3\)"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_it_is_built(classes, frames, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_onnx(make_network(), make_metadata(classes), tmp_path / "model.onnx", frames)
    assert list(tmp_path.iterdir()) == []
