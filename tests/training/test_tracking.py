"""What MLflow is told."""

import re
import time

import mlflow
import pytest

from training.experiments import system_metrics
from training.settings import TrackingSettings
from training.tracking import Tracker, tracking_uri


def test_the_database_is_the_one_that_is_set_or_the_environments_or_the_runs_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(TrackingSettings(), tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///environment.db")
    assert tracking_uri(TrackingSettings(), tmp_path) == "sqlite:///environment.db"
    assert tracking_uri(TrackingSettings(uri="sqlite:///set.db"), tmp_path) == "sqlite:///set.db"


def test_a_pipeline_that_goes_on_otherwise_keeps_the_parameters_of_its_start(database, tmp_path):
    tracker = Tracker(database, "test", tmp_path)
    for parameters in ({"workers": 1}, {"workers": 2, "training": {"power": 0.9}}):
        with tracker.pipeline("run", "goes on") as parent:
            tracker.describe(parameters, {}, [])
    assert mlflow.get_run(parent).data.params == {"workers": "1", "training.power": "0.9"}


def test_a_stage_that_is_opened_again_replaces_its_run_whatever_its_name(database, tmp_path):
    tracker = Tracker(database, "test", tmp_path)
    with tracker.pipeline("run", "key") as parent:
        for _ in range(2):
            with tracker.stage("Felzenszwalb's regions"):
                pass
    nested: list = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent}'", output_format="list", search_all_experiments=True
    )
    assert [run.info.run_name for run in nested] == ["Felzenszwalb's regions"]


def test_where_there_is_no_terminal_a_line_says_that_a_stage_is_complete(database, tmp_path, capsys):
    tracker = Tracker(database, "test", tmp_path)
    with tracker.pipeline("run", "key"):
        with tracker.stage("features"):
            pass
        with pytest.raises(ZeroDivisionError), tracker.stage("bounds"):
            raise ZeroDivisionError
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d features: complete, 0 s", line)


def test_a_pipeline_that_goes_on_counts_its_samples_on(database, tmp_path, monkeypatch):
    monkeypatch.setattr(system_metrics, "SECONDS", 0.05)
    for samples in (2, 4):
        tracker = Tracker(database, "test", tmp_path)
        with tracker.pipeline("run", "key") as parent:
            deadline = time.monotonic() + 60
            while tracker._samples() < samples:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    history = mlflow.MlflowClient(database).get_metric_history(parent, "system/cpu_utilization_percentage")
    assert sorted(point.step for point in history) == list(range(len(history))) and len(history) >= 4
    monkeypatch.setattr(system_metrics, "SECONDS", 10.0)
    with tracker.pipeline("run", "another"):
        assert tracker._samples() == 0
