"""An MLflow that is away, frozen or back: nothing is lost, nothing is said twice, and nobody waits long."""

import threading
import time

import mlflow
import numpy as np
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from training import tracking
from training.experiments.sender import is_away
from training.tracking import Tracker


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setattr(tracking, "START_SECONDS", 1.0)
    monkeypatch.setattr(tracking, "END_SECONDS", 1.0)


def say_a_run(folder, uri, between=lambda: None):
    tracker = Tracker(uri, "away", folder)
    with tracker.pipeline("run", folder.name) as run_id:
        tracker.describe({"rounds": 1}, {"what": "a test"}, [])
        with tracker.stage("round_0/evaluation"):
            tracker.metrics({"val/miou_class": 0.25}, 0)
            between()
            tracker.metrics({"val/miou_class": 0.5}, 1)
            tracker.figure(np.zeros((4, 4, 3), np.uint8), "black")
    return run_id


def find(uri, key):
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("away").experiment_id
    runs = client.search_runs([experiment], f"tags.`onepixel.pipeline` = '{key}'")
    assert len(runs) == 1
    stages = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{runs[0].info.run_id}'")
    return client, runs[0], stages


def check(uri, key):
    client, run, stages = find(uri, key)
    assert run.info.status == "FINISHED" and run.data.params == {"rounds": "1"}
    history = client.get_metric_history(run.info.run_id, "val/miou_class")
    assert sorted((point.step, point.value) for point in history) == [(0, 0.25), (1, 0.5)]
    (stage,) = stages
    assert [file.path for file in client.list_artifacts(stage.info.run_id, "figures")] == ["figures/black.png"]
    return run.info.run_id


def test_all_arrives_over_http_with_the_files_through_the_server(mlflow_server, tmp_path):
    run_id = say_a_run(tmp_path / "plain", mlflow_server.uri)
    assert check(mlflow_server.uri, "plain") == run_id


def test_a_server_that_stops_in_the_middle_is_told_the_rest_when_the_pipeline_goes_on(
    mlflow_server, tmp_path, impatient, monkeypatch, caplog
):
    began = time.monotonic()
    say_a_run(tmp_path / "stopped", mlflow_server.uri, between=mlflow_server.stop)
    assert time.monotonic() - began < 20
    assert "does not answer; what is to be said is kept" in caplog.text and "records; they are kept" in caplog.text
    mlflow_server.start()
    monkeypatch.setattr(tracking, "END_SECONDS", 60)
    monitor = Tracker(mlflow_server.uri, "away", tmp_path / "stopped")
    with monitor.pipeline("run", "stopped"):
        pass  # as `--resume` of a run that is complete
    check(mlflow_server.uri, "stopped")


@pytest.mark.slow
def test_a_server_that_is_back_in_time_is_told_all(mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")

    def away():
        mlflow_server.stop()
        mlflow_server.start()

    say_a_run(tmp_path / "back", mlflow_server.uri, between=away)
    check(mlflow_server.uri, "back")


def test_a_run_that_starts_while_the_server_does_not_answer_has_its_key_for_a_name(
    mlflow_server, tmp_path, impatient, monkeypatch
):
    mlflow_server.freeze(True)
    try:
        began = time.monotonic()
        assert say_a_run(tmp_path / "frozen", mlflow_server.uri) == "frozen"
        assert time.monotonic() - began < 20
        for thread in threading.enumerate():
            if thread.name == "mlflow":
                thread.join(10)  # the process would have ended
    finally:
        mlflow_server.freeze(False)
    monkeypatch.setattr(tracking, "END_SECONDS", 60)
    with Tracker(mlflow_server.uri, "away", tmp_path / "frozen").pipeline("run", "frozen"):
        pass
    check(mlflow_server.uri, "frozen")


def test_a_deleted_experiment_loses_nothing(database, tmp_path, impatient, monkeypatch, caplog):
    client = mlflow.MlflowClient(database)
    experiment = client.create_experiment("deleted")
    client.delete_experiment(experiment)
    tracker = Tracker(database, "deleted", tmp_path)
    with tracker.pipeline("run", "a key"):
        tracker.describe({"rounds": 1}, {}, [])
    assert "makes no run; what is to be said is kept" in caplog.text
    client.restore_experiment(experiment)
    monkeypatch.setattr(tracking, "END_SECONDS", 60)
    with Tracker(database, "deleted", tmp_path).pipeline("run", "a key"):
        pass
    (run,) = client.search_runs([experiment])
    assert run.data.params == {"rounds": "1"}


def http_error(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("of a file", response=response)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (requests.ConnectionError("nobody there"), True),
        (http_error(502), True),
        (http_error(401), True),
        (http_error(413), False),  # a file that is too large for a proxy must not hold up all that follows
        (MlflowException("OperationalError: no connection", TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("too long", INVALID_PARAMETER_VALUE), False),
        (FileNotFoundError("model.onnx"), False),
    ],
)
def test_what_is_away_and_what_refuses_are_told_apart(error, away):
    assert is_away(error) is away
