"""Files in fewer bits: what they hold, and what their gates refuse."""

from pathlib import Path

import onnx
import pytest
import torch

from serving.errors import InputError
from serving.model import Model
from tests.training.export.test_export import make_frames, make_metadata, make_network
from training.configuration import load_settings
from training.datasets.streets import Streets
from training.export import precisions
from training.export.export import EXPORTERS, build_model
from training.export.precisions import convert, half
from training.pipeline import Pipeline
from training.segmentation.prediction import Segmenter

SHIPPED = "model_store/camvid/1/model.onnx"


def test_fp16_halves_the_file_and_answers_alike(tmp_path):
    half(SHIPPED, tmp_path / "half.onnx")
    model, reference = Model.load(tmp_path / "half.onnx"), Model.load(SHIPPED)
    assert model.metadata.precision == "fp16" and model.metadata.source_digest == reference.digest
    assert (tmp_path / "half.onnx").stat().st_size < 0.55 * Path(SHIPPED).stat().st_size
    assert {tensor.data_type for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer} >= {
        onnx.TensorProto.FLOAT16
    }
    frame = Streets("val", size=(360, 480), train_frames=2).frame("streets_val_0000")
    assert (model.segment(frame)[0] == reference.segment(frame)[0]).mean() > 0.98
    with pytest.raises(InputError, match="is in fp16; only an fp32 file is converted"):
        half(tmp_path / "half.onnx", tmp_path / "quarter.onnx")


@pytest.fixture(scope="module")
def run(tiny_streets, tmp_path_factory):
    settings = load_settings("streets", [*tiny_streets, "iterations.rounds=1"])
    pipeline = Pipeline(settings, tmp_path_factory.mktemp("runs") / "run", resume=False, warn=print)
    pipeline.run()
    return pipeline


def test_a_run_is_exported_in_int8_judged_by_labelled_frames(run, tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "MOST_MIOU_LOSS", 1)
    report = run.export(tmp_path / "int8.onnx", precision="int8")
    assert report["truth_seen"] and -1 <= report["miou_difference"] <= 1 and report["exporter"] in EXPORTERS
    model = Model.load(tmp_path / "int8.onnx")
    assert model.metadata.precision == "int8" and model.metadata.classes
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "int8.onnx").graph.node)


@pytest.mark.parametrize(
    ("precision", "limit", "value"), [("fp16", "LEAST_AGREEMENT", 1.1), ("int8", "MOST_MIOU_LOSS", -1)]
)
def test_a_file_that_its_gate_refuses_is_not_written(run, tmp_path, monkeypatch, precision, limit, value):
    monkeypatch.setattr(precisions, limit, value)
    with pytest.raises(InputError, match=rf"{precision}\.onnx: {precision} .*not written"):
        run.export(tmp_path / f"{precision}.onnx", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_refused_where_no_pixel_can_judge_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "_compare", lambda *_: (1.0, float("nan")))
    with pytest.raises(InputError, match="int8 loses nan%"):
        run.export(tmp_path / "int8.onnx", precision="int8")


def test_int8_takes_its_ranges_from_other_frames_than_those_that_judge_it(run, tmp_path, monkeypatch):
    judged = []

    def compare(model, reference, dataset, frame_ids):
        judged.extend(frame_ids)
        return 1.0, 0.0

    monkeypatch.setattr(precisions, "_compare", compare)
    source = tmp_path / "fp32.onnx"
    run.export(source)
    convert(source, "int8", tmp_path / "int8.onnx", run.train_set, run.frame_ids)
    assert judged == list(run.frame_ids)[1::2]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_both_exporters_write_the_same_masks(exporter, tmp_path):
    segmenter = Segmenter(make_network().eval(), (64, 80))
    onnx.save_model(build_model(segmenter, make_metadata(), exporter), tmp_path / "model.onnx")
    frames = make_frames(2)
    with torch.inference_mode():
        expected, _ = segmenter(torch.from_numpy(frames))
    answered, _ = Model.load(tmp_path / "model.onnx").infer(frames)
    assert (answered == expected.numpy()).mean() > 0.9999
