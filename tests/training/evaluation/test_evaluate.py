"""What `onepixel evaluate` scores, writes and refuses, with a real model, server, network and files."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from serving.model import Model
from serving.server import Server
from tests.training.evaluation.frames import (
    BUILDING,
    POLE,
    SIZE,
    SKY,
    save,
    write_configuration,
    write_frames,
    write_model,
)
from training.cli import main
from training.configuration import load_settings
from training.datasets import open_dataset
from training.datasets.streets import Streets
from training.evaluation.bounds import measure_bounds
from training.evaluation.evaluate import run_evaluation
from training.features.crop_classifier import embedded_classifier
from training.segmentation.checkpoints import save_network
from training.segmentation.networks import DeepLabMobileNetV2
from training.segmentation.prediction import predict
from training.taxonomy import CAMVID

HALF = [[SKY] * 6 + [BUILDING] * 6]


@pytest.fixture
def configuration(tmp_path):
    write_frames(tmp_path / "frames", [SKY, BUILDING, HALF, 255])
    return write_configuration(tmp_path / "mine.yaml", tmp_path / "frames")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.onnx")


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", "--json", *map(str, arguments)])


def scores(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2 and not result.stdout, result.output
    return result.stderr


def test_a_split_whose_labels_are_all_ignored_has_no_figure_and_says_so(model, tmp_path):
    write_frames(tmp_path / "frames", [255, 255])
    configuration = write_configuration(tmp_path / "mine.yaml", tmp_path / "frames")
    result = run("--model", model, "--dataset", configuration, "--out", tmp_path / "out")
    assert result.exit_code == 0 and json.loads(result.stdout)["miou_class"] is None
    assert (
        "every true label of the scored frames is 255, which counts for nobody: no figure is defined" in result.stderr
    )
    settings = load_settings(str(configuration), [])
    bounds = measure_bounds(open_dataset(settings.dataset, "val"), settings.superpixels)
    assert bounds == {"floor_miou": None, "ceiling_miou": None}


def test_a_model_by_hand(configuration, model, tmp_path):
    # The first frame's truth says Pole; the model still sees Sky.
    save(np.full(SIZE, POLE), tmp_path / "frames" / "val" / "labels" / "frame0.png")
    report = scores("--model", model, "--dataset", configuration)
    assert report["frames"] == 4 and report["model_digest"] == Model.load(model).digest
    # 96 pixels a frame: Sky 48 right, 96 wrong; Building 144 right; Pole 96 missed.
    assert (report["iou"]["Sky"], report["iou"]["Building"], report["iou"]["Pole"]) == (1 / 3, 1, 0)
    assert report["iou"]["Road"] is None and report["iou_category"]["flat"] is None
    assert report["iou_category"]["construction"] == 1
    assert (report["precision"]["Sky"], report["recall"]["Pole"], report["precision"]["Pole"]) == (1 / 3, 0, None)
    assert report["miou_class"] == report["miou_category"] == pytest.approx(4 / 9)
    assert report["frequency_weighted_iou"] == pytest.approx((48 / 3 + 144) / 288)
    assert report["pixel_accuracy"] == 192 / 288
    assert report["calibration_error"] == pytest.approx(0.8 - 2 / 3)  # the model says 0.8 everywhere
    # Only the third frame has a boundary, and it is right.
    assert report["boundary_f"]["Sky"] == report["boundary_f"]["Building"] == report["mean_boundary_f"] == 1
    assert report["boundary_f"]["Pole"] is None
    assert (report["source"], report["dataset"], report["split"]) == (f"--model {model}", "folder", "val")


def test_all_sources_of_the_same_masks_have_the_same_scores(configuration, model, tmp_path):
    expected = scores("--model", model, "--dataset", configuration, "--out", tmp_path / "out")
    server = Server(Model.load(model))
    server.start()
    try:
        served = scores("--server", server.address, "--dataset", configuration)
    finally:
        server.stop()
    read = scores("--predictions", tmp_path / "out", "--dataset", configuration)
    assert {**served, "source": ""} == {**expected, "source": ""}
    confidence = {"calibration_error": None, "reliability": None, "model_digest": None, "source": ""}
    assert {**read, "reliability": None, "source": ""} == {**expected, **confidence}


def test_what_is_written(configuration, model, tmp_path):
    out = tmp_path / "new" / "out"
    report = scores("--model", model, "--dataset", configuration, "--out", out)
    names = ["confusion.csv", "confusion.png", "frame0.png", "frame1.png", "frame2.png", "frame3.png", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "report.json").read_text()) == report
    assert np.array_equal(np.asarray(Image.open(out / "frame2.png")), np.broadcast_to(HALF, SIZE))
    rows = list(csv.reader((out / "confusion.csv").read_text().splitlines()))
    assert rows[0][1:] == [*CAMVID.names, "unlabelled"] and rows[1][:3] == ["Sky", "144", "0"]
    assert Image.open(out / "confusion.png").mode == "RGB"


def test_a_limit_takes_evenly_spaced_frames_and_says_so(configuration, model):
    result = run("--model", model, "--dataset", configuration, "--set", "dataset.limit=2")
    assert "warning: dataset.limit=2: 2 of the 4 frames of 'val' are scored" in result.stderr
    report = json.loads(result.stdout)
    assert report["frames"] == 2 and report["recall"]["Sky"] == 1  # the first and the third
    assert report["frequency_weighted_iou"] == 1


def test_what_is_undefined_is_null(model, tmp_path):
    write_frames(tmp_path / "frames", [255])
    report = scores("--model", model, "--dataset", write_configuration(tmp_path / "mine.yaml", tmp_path / "frames"))
    assert report["frames"] == 1
    for key in ("miou_class", "miou_category", "frequency_weighted_iou", "pixel_accuracy", "mean_boundary_f"):
        assert report[key] is None
    for key in ("iou", "iou_category", "precision", "recall", "boundary_f"):
        assert set(report[key].values()) == {None}


def test_the_table_for_a_person(configuration, model):
    result = CliRunner().invoke(main, ["evaluate", "--model", str(model), "--dataset", configuration])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["Sky", "100.0", "100.0", "100.0", "100.0"] in lines and ["Road", "-", "-", "-", "-"] in lines
    assert (
        ["mean,", "class", "100.0"] in lines and ["calibration", "error", "20.0"] in lines and ["frames", "4"] in lines
    )


def test_what_was_given_as_something_else_is_told(configuration, model, tmp_path):
    weights = tmp_path / "network.safetensors"
    weights.touch()
    for option, path, told in (
        ("--model", weights, "holds a run's weights; give them as --checkpoint"),
        ("--model", tmp_path, "is a folder; give the .onnx file, such as NAME/VERSION/model.onnx in it"),
        ("--checkpoint", model, "is an exported model; give it as --model"),
    ):
        assert told in refusal(option, path, "--dataset", configuration)


@pytest.mark.parametrize("given", [[], ["--model", "--server"], ["--checkpoint", "--predictions"]])
def test_exactly_one_source(given, configuration):
    error = refusal("--dataset", configuration, *(word for option in given for word in (option, "x")))
    assert "give exactly one of --model, --checkpoint, --predictions, --server" in error
    assert f"got {' and '.join(given) or 'none'}" in error


def test_other_classes_are_refused(configuration, tmp_path):
    other = write_model(tmp_path / "other.onnx", ["lawn", "pond", "path"])
    expected = "its classes are lawn, pond, path; camvid has others"
    assert f"--model {other}: {expected}" in refusal("--model", other, "--dataset", configuration)
    server = Server(Model.load(other))
    server.start()
    try:
        assert expected in refusal("--server", server.address, "--dataset", configuration)
    finally:
        server.stop()


def test_a_server_that_is_not_there_is_named(configuration, monkeypatch):
    monkeypatch.setattr("training.evaluation.sources.PATIENCE", 0.2)
    error = refusal("--server", "127.0.0.1:9", "--dataset", configuration)
    assert "--server 127.0.0.1:9: no server answers" in error


def test_a_split_without_labels_gets_masks_alone(model, tmp_path):
    write_frames(tmp_path / "frames", [SKY])
    (tmp_path / "frames" / "val" / "labels" / "frame0.png").unlink()
    (tmp_path / "frames" / "val" / "labels").rmdir()
    configuration = write_configuration(tmp_path / "mine.yaml", tmp_path / "frames")
    assert "--split val: has no labels" in refusal("--model", model, "--dataset", configuration)
    result = run("--model", model, "--dataset", configuration, "--out", tmp_path / "out")
    assert "'val' has no labels" in result.stderr and json.loads(result.stdout)["miou_class"] is None
    assert not np.asarray(Image.open(tmp_path / "out" / "frame0.png")).any()


def test_a_frame_that_cannot_be_read_stops_and_is_named_or_is_left_out(configuration, model, tmp_path):
    broken = tmp_path / "frames" / "val" / "images" / "frame1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    assert "frame1.png: image: the PNG is truncated" in refusal("--model", model, "--dataset", configuration)
    report = scores("--model", model, "--dataset", configuration, "--set", "dataset.unreadable=skip")
    assert report["frames"] == 3 and report["unreadable"] == ["frame1"]


def test_a_mask_of_another_size_names_its_file(configuration, model, tmp_path):
    scores("--model", model, "--dataset", configuration, "--out", tmp_path / "masks")
    path = save(np.zeros((4, 12)), tmp_path / "masks" / "frame2.png")
    error = refusal("--predictions", tmp_path / "masks", "--dataset", configuration)
    assert f"{path}: the mask of frame 'frame2' is 4 x 12 (height x width), its truth is 8 x 12" in error


def test_masks_are_not_written_among_the_predictions(configuration, model, tmp_path):
    error = refusal("--predictions", tmp_path, "--dataset", configuration, "--out", tmp_path / "out")
    assert "lies in --predictions" in error


@pytest.fixture(scope="module")
def network():
    network = DeepLabMobileNetV2(embedded_classifier(), len(CAMVID.classes), seed=3)
    for parameter in network.head.parameters():
        parameter.data.mul_(100)  # so that the classes' probabilities are far apart
    return network


class TestCheckpoint:
    def test_without_a_run_the_configuration_says_how_it_is_built(self, network, configuration, tmp_path):
        save_network(network, tmp_path / "network.safetensors")
        out = tmp_path / "out"
        report = scores("--checkpoint", tmp_path / "network.safetensors", "--dataset", configuration, "--out", out)
        assert report["frames"] == 4 and report["model_digest"] is None and report["calibration_error"] is not None
        frame = np.asarray(Image.open(tmp_path / "frames" / "val" / "images" / "frame2.png"))
        mask = np.asarray(Image.open(out / "frame2.png"))
        assert np.array_equal(mask, predict(network, frame, (64, 96)).class_ids)

    def test_prediction_settings_are_taken(self, network, configuration, tmp_path):
        save_network(network, tmp_path / "network.safetensors")
        given = ["prediction.scales=[0.75, 1.25]", "prediction.flip=true"]
        settings = load_settings(configuration, given)
        report = run_evaluation(
            settings, "val", checkpoint=tmp_path / "network.safetensors", out=tmp_path / "out", warn=pytest.fail
        )
        assert report["frames"] == 4
        frame = np.asarray(Image.open(tmp_path / "frames" / "val" / "images" / "frame2.png"))
        expected = predict(network, frame, (64, 96), settings.prediction).class_ids
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "frame2.png")), expected)

    def test_a_network_that_does_not_fit_is_refused(self, network, configuration, tmp_path):
        path = tmp_path / "network.safetensors"
        save_network(network, path)
        rates = ["--set", "network.aspp_rates=[6]"]
        error = refusal("--checkpoint", path, "--dataset", configuration, *rates)
        assert f"--checkpoint {path}: does not fit `network` and `cam` in the configuration of --dataset" in error
        run_folder = tmp_path / "run" / "round_0" / "network" / "network.safetensors"
        save_network(network, run_folder)
        (tmp_path / "run" / "settings.yaml").write_text(
            (tmp_path / "mine.yaml").read_text().replace('"network": {', '"network": {"aspp_rates": [6], ')
        )
        error = refusal("--checkpoint", run_folder, "--dataset", configuration)
        assert f"does not fit `network` and `cam` in {tmp_path / 'run' / 'settings.yaml'}" in error

    def test_the_network_of_a_run_is_the_runs(self, network, configuration, tmp_path):
        path = tmp_path / "run" / "round_0" / "network" / "network.safetensors"
        save_network(network, path)
        settings = tmp_path / "run" / "settings.yaml"
        settings.write_text((tmp_path / "mine.yaml").read_text())
        given = ["--checkpoint", path, "--dataset", configuration, "--set", "network.input_size=[64, 96]"]
        assert scores(*given)["frames"] == 4
        error = refusal(*given, "--set", "network.output_stride=8")
        expected = (
            f"--set network.output_stride: --checkpoint {path} is built by {settings}, where it is 16; leave it out"
        )
        assert expected in error

    def test_a_run_of_other_classes_is_refused(self, network, configuration, tmp_path):
        path = tmp_path / "run" / "round_0" / "network" / "network.safetensors"
        save_network(network, path)
        (tmp_path / "run" / "settings.yaml").write_text(
            (tmp_path / "mine.yaml").read_text().replace('"taxonomy": "camvid"', '"taxonomy": "cityscapes"')
        )
        assert "its classes are road" in refusal("--checkpoint", path, "--dataset", configuration)

    def test_a_missing_file_is_named(self, configuration):
        assert "absent.safetensors" in refusal("--checkpoint", "absent.safetensors", "--dataset", configuration)


def test_generated_scenes_are_scored_too(tmp_path):
    tiny = ["dataset.size=[64, 128]", "dataset.frames=4"]
    streets = Streets("val", size=(64, 128), train_frames=4)
    for frame_id in streets.frame_ids:
        save(streets.labels(frame_id), tmp_path / f"{frame_id}.png")
    report = scores("--predictions", tmp_path, "--dataset", "streets", *(w for s in tiny for w in ("--set", s)))
    assert report["frames"] == 2 and report["miou_class"] == report["mean_boundary_f"] == 1
