"""The whole way on a few tiny scenes: what comes out, and that a killed run resumes to the same."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from serving.client import Client
from serving.errors import InputError
from serving.frames import resize_frame
from serving.model import Model
from serving.server import Server
from tests.training.conftest import FRAMES, SIZE
from tests.training.processes import start
from training import pipeline as pipeline_module
from training import run_folder
from training.cli import main
from training.configuration import load_settings
from training.datasets.streets import Streets
from training.demo import draw_annotated
from training.evaluation.evaluate import run_evaluation
from training.pipeline import Pipeline
from training.run_folder import write_json
from training.samples import pseudo_sample, true_sample


@pytest.fixture(scope="module")
def overrides(tiny_streets):
    return tiny_streets


def make_pipeline(overrides, out, resume=False):
    settings = load_settings("streets", overrides) if isinstance(overrides, list) else overrides
    return Pipeline(settings, out, resume=resume, warn=pytest.fail)


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    pipeline = make_pipeline(overrides, out)
    return pipeline, pipeline.run(), out


def test_the_report(finished):
    _, report, out = finished
    assert len(report["miou_class"]) == len(report["miou_category"]) == len(report["pseudo_miou"]) == 2
    assert 0 < report["floor_miou"] < report["ceiling_miou"] < 1
    assert 0 < report["pseudo_precision"] < 1 and 0 < report["pseudo_recall"] < 1
    assert json.loads((out / "report.json").read_text()) == report


def test_pseudo_labels_are_class_ids_of_the_frames_own_size(finished):
    pipeline, _, out = finished
    for number in (0, 1):
        files = sorted((out / f"round_{number}" / "pseudo_labels").glob("*.png"))
        assert [path.stem for path in files] == pipeline.frame_ids
        for path in files:
            labels = np.asarray(Image.open(path))
            assert labels.shape == SIZE
            assert set(np.unique(labels)) <= {*range(19), 255}


def test_frames_are_labelled_anew_from_the_solved_graph(finished, tmp_path):
    pipeline, _, out = finished
    frames = tmp_path / "frames"
    frames.mkdir()
    for frame_id in pipeline.frame_ids:
        Image.fromarray(pipeline.train_set.frame(frame_id)).save(frames / f"{frame_id}.png")
    (frames / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (400, 40)).save(frames / "strip.png")
    command = ["label", str(out), "--frames", str(frames), "--out", str(tmp_path / "labels"), "--json"]
    result = CliRunner().invoke(main, command)
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and report["failed"] == 2 and "broken.png" in report["failures"][0]["failure"]
    assert "frames/strip.png: the image is 40 x 400 (height x width)" in report["failures"][1]["failure"]
    agreement = []
    for frame_id in pipeline.frame_ids:
        again = np.asarray(Image.open(tmp_path / "labels" / f"{frame_id}.png"))
        agreement.append((again == pipeline.pseudo_labels(0, frame_id)).mean())
    # A region's scores are here the mean of its neighbours', itself among them, and not the solution itself.
    assert np.mean(agreement) > 0.7


def test_mlflow_holds_a_parent_run_and_one_nested_run_per_stage(finished):
    _, report, _ = finished
    client = mlflow.MlflowClient(report["mlflow_uri"])
    parent = client.get_run(report["mlflow_run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.params["training.updates"] == "6"
    assert len(parent.data.tags["onepixel.dataset_digest"]) == len(parent.data.tags["onepixel.pixels_digest"]) == 64
    history = client.get_metric_history(parent.info.run_id, "val/miou_class")
    assert [(point.step, point.value) for point in history] == list(enumerate(report["miou_class"]))
    assert {
        "val/miou_category",
        "val/iou/road",
        "val/boundary_f",
        "val/calibration_error",
        "pseudo/precision",
        "pseudo/coverage",
    } <= set(parent.data.metrics)
    assert {"settings.yaml", "pixels.yaml"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    stages = {run.info.run_name: run for run in client.search_runs([parent.info.experiment_id], query)}
    rounds = {f"round_{i}/{name}" for i in (0, 1) for name in ("pseudo_labels", "network", "evaluation")}
    assert set(stages) == {"features", "bounds", "model_store"} | rounds
    figures = client.list_artifacts(stages["round_1/evaluation"].info.run_id, "figures")
    assert len(figures) == 5 and "figures/confusion.png" in [file.path for file in figures]


def test_the_twin_learns_the_truth_with_as_many_updates(finished, tmp_path):
    _, report, out = finished
    assert report["twin_miou_class"] is None
    copy = shutil.copytree(out, tmp_path / "run")
    again = Pipeline(finished[0].settings, copy, resume=True, warn=pytest.fail, twin=True).run()
    done = json.loads((copy / "twin" / "network" / "done.json").read_text())
    assert done["updates"] == 2 * 6
    assert 0 < again["twin_miou_class"] < 1 and again["miou_class"] == report["miou_class"]
    metrics = mlflow.MlflowClient(again["mlflow_uri"]).get_run(again["mlflow_run_id"]).data.metrics
    assert metrics["twin/miou_class"] == again["twin_miou_class"]


def test_the_demo_draws_a_frame_with_its_annotated_pixels(finished, tmp_path):
    draw_annotated(finished[0], tmp_path)
    pictures = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    size = (2 * SIZE[1], 2 * SIZE[0])
    assert pictures == dict.fromkeys(("pixels.png", "pseudo_label.png", "prediction.png", "truth.png"), size)


def test_what_labels_are_sure_of_is_kept(finished):
    pipeline, _, _ = finished
    for number in (0, 1):
        for frame_id in pipeline.frame_ids:
            sure = np.asarray(Image.open(pipeline.folder.confidence(number, frame_id)))
            assert sure.shape == SIZE and np.array_equal(sure == 0, pipeline.pseudo_labels(number, frame_id) == 255)


def test_soft_labels_are_kept_for_each_superpixel_and_trained_on_in_every_round(finished, overrides, tmp_path):
    _, hard, features = finished
    pipeline = make_pipeline([*overrides, "training.soft_labels=0.5"], tmp_path / "run")
    run_folder.link_files(features / "features", tmp_path / "run" / "features")
    report = pipeline.run()
    assert report["pseudo_miou"][0] == hard["pseudo_miou"][0] and report["miou_class"] != hard["miou_class"]
    for number in (0, 1):
        for frame_id in pipeline.frame_ids:
            distributions = np.load(pipeline.folder.soft_labels(number, frame_id))
            regions = pipeline.regions(frame_id).labels
            labels = pipeline.pseudo_labels(number, frame_id)
            assert distributions.dtype == np.float16 and distributions.shape == (regions.max() + 1, 19)
            sums = distributions.astype(float).sum(axis=1)[regions]
            np.testing.assert_allclose(sums, labels != 255, atol=2e-3)
            best = np.where(labels == 255, 0, labels)
            assert np.array_equal(distributions.max(axis=1)[regions], distributions[regions, best])
            sample = pseudo_sample(pipeline.folder, pipeline.train_set, pipeline.settings, number, frame_id)
            assert np.array_equal(sample.labels, labels) and np.array_equal(sample.soft.regions, regions)


@pytest.mark.slow
def test_two_processes_train_what_one_does(overrides, tmp_path):
    # By SGD: AdamW makes a whole step of what rounding alone has left of a gradient, so that weights drift apart.
    overrides, alone = [*overrides, "training.optimizer=sgd"], tmp_path / "alone"
    report = make_pipeline(overrides, alone).run()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    options = [text for override in overrides for text in ("--set", override)]
    command = [*torchrun, "training.cli", "train", "streets", "--out", str(tmp_path / "run"), "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (answer,) = result.stdout.splitlines()
    trained = json.loads(answer)
    assert trained["pseudo_miou"][0] == report["pseudo_miou"][0]
    # Sums in another order: measured are weights apart by 6e-8 after a round, which may label a pixel of the second one
    # otherwise, and by 3e-4 after two.
    assert trained["pseudo_miou"][1] == pytest.approx(report["pseudo_miou"][1], abs=1e-4)
    assert trained["miou_class"] == [
        pytest.approx(report["miou_class"][0]),
        pytest.approx(report["miou_class"][1], abs=1e-3),
    ]
    for number, tolerance in ((0, 1e-6), (1, 1e-3)):
        file = f"round_{number}/network/network.safetensors"
        weights, again = load_file(alone / file), load_file(tmp_path / "run" / file)
        assert all(np.allclose(again[name], value, atol=tolerance) for name, value in weights.items())


def test_the_exported_file_is_the_one_in_mlflow_and_describes_itself(finished, tmp_path):
    pipeline, report, _ = finished
    model = Model.load(Path(report["onnx"]))
    assert model.digest == report["onnx_digest"]
    assert report["onnx_agreement"] >= 0.9999
    assert model.metadata.mlflow_run_id == report["mlflow_run_id"]
    assert model.metadata.pixels_digest == pipeline.pixels.digest()
    assert model.metadata.metrics["val/miou_class"] == report["miou_class"][-1]
    mlflow.set_tracking_uri(report["mlflow_uri"])
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`onepixel.stage` = 'model_store' AND tags.mlflow.parentRunId = '{report['mlflow_run_id']}'"
    (stage,) = client.search_runs(experiments, query)
    (output,) = stage.outputs.model_outputs
    uri = f"models:/{output.model_id}"
    logged = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path)))
    assert (logged / "model.onnx").read_bytes() == Path(report["onnx"]).read_bytes()


def test_server_evaluate_and_the_last_round_agree(finished):
    pipeline, report, out = finished
    path, dataset = Path(report["onnx"]), pipeline.evaluation_set
    settings = pipeline.settings.model_copy(
        update={"dataset": pipeline.settings.dataset.model_copy(update={"limit": None})}
    )
    scores = run_evaluation(settings, "val", model=path, warn=pytest.fail)
    assert scores["frames"] == FRAMES // 2
    assert scores["miou_class"] == pytest.approx(report["miou_class"][-1], abs=1e-3)
    for number, miou in enumerate(report["miou_class"]):
        weights = out / f"round_{number}" / "network" / "network.safetensors"
        assert run_evaluation(settings, "val", checkpoint=weights, warn=pytest.fail)["miou_class"] == miou
        assert (out / f"round_{number}" / "evaluation" / "confusion.csv").exists()
    model = Model.load(path)
    server = Server(model)
    server.start()
    try:
        with Client(server.address) as client:
            for frame_id in dataset.frame_ids[:3]:
                frame = dataset.frame(frame_id)
                assert np.array_equal(client.segment(frame).mask, model.segment(frame)[0])
    finally:
        server.stop()


def test_any_round_can_be_exported(finished, tmp_path):
    pipeline, report, _ = finished
    export = pipeline.export(tmp_path / "first.onnx", 0)
    assert Model.load(tmp_path / "first.onnx").metadata.metrics["val/miou_class"] == report["miou_class"][0]
    assert export["onnx_digest"] != report["onnx_digest"]
    with pytest.raises(InputError, match="--round 2: the run has rounds 0 to 1"):
        pipeline.export(tmp_path / "third.onnx", 2)


def test_a_folder_with_a_run_is_neither_overwritten_nor_mixed(finished, overrides):
    _, _, out = finished
    with pytest.raises(InputError, match="holds a run: add --resume"):
        make_pipeline(overrides, out)
    with pytest.raises(InputError, match=r"--resume: training\.updates is 7, other \(6\)"):
        make_pipeline([*overrides, "training.updates=7"], out, resume=True)
    with pytest.raises(InputError, match=r"--resume: training\.updates is 7, other \(6\)"):
        make_pipeline([*overrides, "training.checkpoint_every=7", "training.updates=7"], out, resume=True)
    with pytest.raises(InputError, match=r"--resume: iterations\.refine is False, other \(True\)"):
        make_pipeline([*overrides, "training.checkpoint_every=7", "iterations.refine=false"], out, resume=True)
    make_pipeline([*overrides, "workers=2", "training.checkpoint_every=7"], out, resume=True)


def test_two_processes_do_not_work_in_one_folder_but_what_is_complete_can_be_exported(finished, overrides, tmp_path):
    _, _, out = finished
    with run_folder.claimed(out):
        second = make_pipeline(overrides, out, resume=True)
        with pytest.raises(InputError, match="run: another process is at work here"):
            second.run()
        assert second.export(tmp_path / "first.onnx", 0)["onnx_digest"]
    with run_folder.claimed(tmp_path / "new"), pytest.raises(InputError, match="new: another process is at work here"):
        make_pipeline(overrides, tmp_path / "new")


def test_of_two_that_begin_in_one_folder_the_second_is_told(overrides, tmp_path, monkeypatch):
    out, claimed = tmp_path / "run", run_folder.claimed

    def late(path):
        monkeypatch.setattr(run_folder, "claimed", claimed)
        make_pipeline(overrides, out)  # between the look for a run and the claim
        return claimed(path)

    monkeypatch.setattr(run_folder, "claimed", late)
    with pytest.raises(InputError, match="holds a run: add --resume"):
        make_pipeline(overrides, out)


def test_frames_are_trained_on_at_the_size_that_the_exported_model_sees(finished):
    pipeline, _, _ = finished
    half = (SIZE[0] // 2, SIZE[1] // 2)
    network = pipeline.settings.network.model_copy(update={"input_size": half})
    settings, frames = pipeline.settings.model_copy(update={"network": network}), pipeline.train_set
    frame_id = pipeline.frame_ids[0]
    for sample in (
        pseudo_sample(pipeline.folder, frames, settings, 0, frame_id),
        true_sample(frames, settings, frame_id),
    ):
        assert np.array_equal(sample.frame, resize_frame(frames.frame(frame_id), *half))
        assert sample.labels.shape == half


def test_the_twin_learns_labelled_frames_alone_and_not_beside_rounds_that_begin_elsewhere(
    finished, overrides, tmp_path, monkeypatch
):
    _, _, out = finished
    val = Streets("val", size=SIZE, train_frames=FRAMES)
    (tmp_path / "new").mkdir()
    Image.fromarray(val.frame(val.frame_ids[0])).save(tmp_path / "new" / "new.png")
    more = ["dataset.limit=null", f"dataset.extra={tmp_path / 'new'}"]
    pipeline = make_pipeline([*overrides, *more], tmp_path / "run")
    seen = set()

    def noted(dataset, settings, frame_id):
        seen.add(frame_id)
        return true_sample(dataset, settings, frame_id)

    monkeypatch.setattr(pipeline_module, "true_sample", noted)
    pipeline._fit("twin")
    assert len(pipeline.frame_ids) == FRAMES + 1 and seen == set(pipeline.frame_ids[:FRAMES])
    start = out / "round_0" / "network" / "network.safetensors"
    settings = load_settings("streets", [*overrides, f"iterations.start={start}"])
    with pytest.raises(
        InputError, match=r"--twin: begins with the first weights, and iterations\.start=.* with others"
    ):
        Pipeline(settings, tmp_path / "started", resume=False, warn=pytest.fail, twin=True)


@pytest.mark.parametrize(
    ("split", "method", "what"),
    [
        ("train", "frame", "the training frames"),
        ("train", "labels", "the true labels of the training frames"),
        ("val", "frame", "the evaluation frames"),
        ("val", "labels", "the true labels of the evaluation frames"),
    ],
)
def test_frames_and_labels_must_be_those_of_the_start(finished, monkeypatch, split, method, what):
    pipeline, _, out = finished
    given = getattr(Streets, method)

    def changed(self, frame_id):
        pixels = given(self, frame_id)
        if self.split == split:
            pixels[0, 0] = 255 - pixels[0, 0]
        return pixels

    monkeypatch.setattr(Streets, method, changed)
    with pytest.raises(InputError, match=f"--resume: {what} are not those that {out} was started with"):
        make_pipeline(pipeline.settings, out, resume=True)


def test_a_folder_from_before_labels_had_digests_goes_on(finished, tmp_path):
    pipeline, report, out = finished
    copy = shutil.copytree(out, tmp_path / "run")
    state = json.loads((copy / "state.json").read_text())
    del state["others"]
    write_json(copy / "state.json", state)
    assert make_pipeline(pipeline.settings, copy, resume=True).run()["miou_class"] == report["miou_class"]


def test_a_mistake_does_not_claim_the_folder(overrides, tmp_path):
    with pytest.raises(InputError, match=r"no file .*absent"):
        make_pipeline([*overrides, f"cam.weights={tmp_path / 'absent.safetensors'}"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Killed(BaseException):
    """Stands for a kill in the moment between a stage's work and its mark."""


def test_a_run_that_dies_before_every_mark_leaves_no_double_in_mlflow(finished, overrides, tmp_path, monkeypatch):
    _, expected, features = finished
    out, died = tmp_path / "run", set()
    run_folder.link_files(features / "features", out / "features")
    (out / "features" / "done.json").unlink()

    def die_once(path, content):
        if path not in died:
            died.add(path)
            raise Killed
        write_json(path, content)

    for module in (run_folder, pipeline_module):
        monkeypatch.setattr(module, "write_json", die_once)
    report = None
    while report is None:
        with contextlib.suppress(Killed):
            report = make_pipeline(
                [*overrides, "tracking.experiment=died", "iterations.rounds=1"], out, resume=True
            ).run()
    assert len(died) == 9  # state, mlflow, report, and six stages
    assert report["miou_class"] == expected["miou_class"][:1]
    client = mlflow.MlflowClient(report["mlflow_uri"])
    (experiment,) = [found.experiment_id for found in client.search_experiments() if found.name == "died"]
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.run_id == report["mlflow_run_id"]
    names = [run.info.run_name for run in runs if run is not parent]
    assert len(names) == len(set(names)) == 6
    for key in parent.data.metrics:
        steps = [point.step for point in client.get_metric_history(parent.info.run_id, key)]
        assert len(steps) == len(set(steps)), key
    assert len(client.search_logged_models([experiment])) == 1


def onepixel(command):
    main(command)


KILLS = {
    "features": "features/*.npz",
    "the first pseudo labels": "round_0/pseudo_labels/*.png",
    "the first training": "round_0/network/checkpoint.safetensors",
    "the first evaluation": "round_0/network/done.json",
    "the second pseudo labels": "round_1/pseudo_labels/*.png",
    "the second training": "round_1/network/checkpoint.safetensors",
    "the export": "round_1/evaluation/done.json",
}
"""Stage to the file whose appearance says that it is under way."""


@pytest.mark.parametrize(
    "stages",
    [["features", "the second training"], pytest.param(list(KILLS), marks=pytest.mark.slow)],
    ids=["two stages", "every stage"],
)
def test_a_run_that_is_killed_resumes_to_the_same(finished, overrides, tmp_path, stages):
    _, report, expected = finished
    out = tmp_path / "run"
    options = [text for override in overrides for text in ("--set", override)]
    command = ["train", "streets", "--resume", "--out", str(out), *options]
    complete = {}
    for pattern in map(KILLS.__getitem__, stages):
        # The first one has workers, which must not write on when it is killed; the others are without.
        workers = 1 if (out / "state.json").exists() else 2
        process = start(onepixel, [*command, "--set", f"workers={workers}"], log=tmp_path / "log")
        while not list(out.glob(pattern)):
            assert process.is_alive(), (tmp_path / "log").read_text()
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for done, changed in complete.items():
            assert done.stat().st_mtime_ns == changed, f"{done.parent} was complete and ran again"
        complete = {done: done.stat().st_mtime_ns for done in out.rglob("done.json")}
    last = start(onepixel, command, log=tmp_path / "log")
    last.join()
    assert last.exitcode == 0, (tmp_path / "log").read_text()
    resumed = json.loads((out / "report.json").read_text())
    for key in ("miou_class", "miou_category", "pseudo_miou", "floor_miou", "ceiling_miou"):
        assert resumed[key] == report[key]
    for path in expected.rglob("round_*/pseudo_labels/*.png"):
        assert (out / path.relative_to(expected)).read_bytes() == path.read_bytes()
    for number in (0, 1):
        weights, again = (load_file(at / f"round_{number}/network/network.safetensors") for at in (expected, out))
        assert all(np.array_equal(weights[name], again[name]) for name in weights)
    assert not list(out.rglob("*.part*")) and not list(out.rglob("*.tmp"))
