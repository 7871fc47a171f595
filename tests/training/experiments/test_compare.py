"""Two runs of the small streets side by side, and one of them built again."""

import json

import numpy as np
import pytest
from PIL import Image

from serving.errors import InputError
from training.cli import main
from training.configuration import load_settings
from training.experiments.compare import compare_runs
from training.pipeline import Pipeline


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
    assert run.data.tags["onepixel.dataset_digest"].startswith(inputs["training"].digest)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"settings.yaml", "pixels.yaml", "installed.txt", "dataset"} <= files


@pytest.mark.parametrize(("run_ids", "message"), [(["a"], "two or more"), (["a", "b"], "knows no such run")])
def test_runs_that_are_none_are_told(database, run_ids, message):
    with pytest.raises(InputError, match=message):
        compare_runs(database, run_ids, None)
