"""Two runs of the small streets side by side, and one of them built again."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from serving.errors import InputError
from training.cli import main
from training.configuration import load_settings
from training.experiments.compare import compare_runs
from training.pipeline import Pipeline
from training.tracking import Tracker


@pytest.fixture(scope="module")
def runs(tiny_streets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for updates in (4, 5):
        settings = load_settings("streets", [*tiny_streets, "iterations.rounds=1", f"training.updates={updates}"])
        Pipeline(settings, folder / str(updates), resume=False, warn=print).run()
    return folder


def test_what_differs_is_told_and_the_same_frames_are_drawn(runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(runs / "4"), str(runs / "5"), "--out", str(tmp_path), "--json"])
    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["differences"] == {"training.updates": [4, 5]}
    stored = [json.loads((runs / name / "report.json").read_text())["miou_class"][-1] for name in ("4", "5")]
    assert report["metrics"]["val/miou_class"] == stored
    assert "val/iou/road" in report["metrics"]
    assert json.loads((tmp_path / "comparison.json").read_text()) == report
    frames = list((tmp_path / "frames").glob("*.png"))
    assert len(frames) == 4 and np.asarray(Image.open(frames[0])).ndim == 3
    assert Image.open(tmp_path / "comparison.png").size[0] > 100


def test_a_run_is_built_again_with_the_same_figures(runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", str(runs / "4"), "--out", str(tmp_path / "again"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and report["same"] and report["largest_difference"] == 0.0
    assert report["again"] != report["run_id"]


def test_a_run_tells_what_it_depends_on(runs, database):
    import mlflow

    client = mlflow.MlflowClient(database)
    run = client.get_run(json.loads((runs / "4" / "mlflow.json").read_text())["run_id"])
    assert "onepixel.command" in run.data.tags
    inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert inputs["training"].name == "streets-train" and len(inputs["training"].digest) == 32
    manifest = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/dataset/train.txt")
    assert hashlib.sha256(manifest.encode()).hexdigest().startswith(inputs["training"].digest)
    pixels = hashlib.sha256((runs / "4" / "pixels.yaml").read_bytes()).hexdigest()
    assert manifest.endswith(f"\npixels.yaml {pixels}\n")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"settings.yaml", "pixels.yaml", "installed.txt", "dataset"} <= files


@pytest.mark.parametrize(("run_ids", "message"), [(["a"], "two or more"), (["a", "b"], "knows no such run")])
def test_runs_that_are_none_are_told(database, run_ids, message):
    with pytest.raises(InputError, match=message):
        compare_runs([(database, run_id) for run_id in run_ids], None)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////nowhere/mlflow.db", "there is no database"),
        ("gopher://x", "gopher"),
        ("http://127.0.0.1:9", "answer"),
    ],
)
def test_a_place_that_is_none_is_told_and_not_made(uri, message):
    with pytest.raises(InputError, match=message):
        compare_runs([(uri, "a"), (uri, "b")], None)


def test_folders_that_were_never_a_run_are_told(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(tmp_path), str(tmp_path)])
    assert ended.value.code == 2 and "it has no mlflow.json" in capsys.readouterr().err


def small_run(uri, folder, pixels, rounds):
    folder.mkdir()
    for name, content in (("settings.yaml", f"pixels: {folder}"), ("pixels.yaml", "{}")):
        (folder / name).write_text(content)
    tracker = Tracker(uri, "small", folder)
    with tracker.pipeline("small", folder.name) as run_id:
        files = [folder / "settings.yaml", folder / "pixels.yaml"]
        tracker.describe({}, {"onepixel.pixels_digest": pixels}, files)
        for number in rounds:
            with tracker.stage(f"round_{number}/evaluation"):
                tracker.figure(np.full((4, 4, 3), number, np.uint8), "frame")
    return run_id


def test_runs_of_two_places_are_compared_by_their_data_and_their_last_round_and_found_by_key(database, tmp_path):
    first = small_run(database, tmp_path / "first-key", "1", (9, 10))
    shutil.copyfile(database.removeprefix("sqlite:///"), tmp_path / "other.db")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    small_run(other, tmp_path / "second-key", "2", (3,))
    small_run(other, tmp_path / "third-key", "1", (3,))
    comparison = compare_runs([(database, first), (other, "second-key")], tmp_path / "out")
    assert comparison.differences() == {"pixels": ["1", "2"]}
    drawn = np.asarray(Image.open(tmp_path / "out" / "frames" / "frame.png"))
    assert (drawn[0, 0, 0], drawn[8, 0, 0]) == (10, 3)
    assert compare_runs([(database, first), (other, "third-key")], None).differences() == {}


def test_other_data_is_refused_before_the_folder_is_claimed(runs, tmp_path, capsys):
    def again(*options):
        with pytest.raises(SystemExit) as ended:
            main(["reproduce", str(runs / "4"), "--out", str(tmp_path), *options])
        return ended.value.code, capsys.readouterr().err

    code, told = again("--set", "dataset.seed=7")
    assert code == 2 and "the dataset of run" in told
    assert not (tmp_path / "run").exists()
