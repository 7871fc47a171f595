"""Against a real MLflow server: thirty promotions at once, and a retraining that is killed twenty times."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from serving.frames import encode_png
from training.configuration import load_settings
from training.datasets.streets import Streets
from training.pipeline import Pipeline
from training.promotion.promotion import Promotion
from training.promotion.registration import register_run
from training.promotion.registry import ensure_registered

pytestmark = pytest.mark.slow
PROMOTIONS, KILLS = 30, 20
COMMAND = [sys.executable, "-m", "training.cli"]


def make_versions(client, name, number):
    """Versions without files, whose gates are said to have passed."""
    ensure_registered(client, name)
    run = client.create_run("0")
    for place in range(number):
        passed = {"onepixel.gates": "passed", "onepixel.gates_against": "1" if place else ""}
        source = f"{run.info.artifact_uri}/{place}"
        client.create_model_version(name, source=source, run_id=run.info.run_id, tags=passed)


def test_of_thirty_promotions_at_once_one_wins_and_the_history_is_consistent(mlflow_server):
    name = "raced"
    promotion = Promotion(mlflow_server.uri, name)
    client = promotion.registry.client
    make_versions(client, name, PROMOTIONS + 1)
    promotion.promote("1", why="the first")
    jobs = [
        subprocess.Popen(
            [*COMMAND, "promote", name, str(number + 2), "--why", f"job {number}", "--uri", mlflow_server.uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROMOTIONS)
    ]
    ended = [(job.wait(600), job.stderr.read()) for job in jobs]
    winners = [number + 2 for number, (status, _) in enumerate(ended) if status == 0]
    assert len(winners) == 1 and {status for status, _ in ended} == {0, 3}, ended
    history = promotion.history()
    assert history["champion"] == str(winners[0])
    assert promotion.registry.alias("champion") == str(winners[0]) and promotion.registry.alias("previous") == "1"
    valid = [entry for entry in history["entries"] if entry["valid"]]
    assert [(entry["version"], entry["previous"]) for entry in valid] == [("1", ""), (str(winners[0]), "1")]


def test_a_promotion_that_is_killed_before_it_sets_the_aliases_is_finished_by_the_next_command(mlflow_server):
    name = "killed-between"
    client = Promotion(mlflow_server.uri, name).registry.client
    make_versions(client, name, 2)
    Promotion(mlflow_server.uri, name).promote("1", why="the first", without_gates=True)
    program = (
        "import os, signal, sys\n"
        "from training.promotion.ledger import Ledger\n"
        "from training.promotion.promotion import Promotion\n"
        "promotion = Promotion(*sys.argv[1:])\n"
        "Ledger.repair = lambda ledger: os.kill(os.getpid(), signal.SIGKILL)\n"
        "promotion.promote('2', why='killed', without_gates=True)\n"
    )
    job = subprocess.run([sys.executable, "-c", program, mlflow_server.uri, name], check=False)
    assert job.returncode == -signal.SIGKILL
    assert client.get_model_version_by_alias(name, "champion").version == "1"  # it lags
    command = [*COMMAND, "history", name, "--uri", mlflow_server.uri]
    assert "champion 2" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert client.get_model_version_by_alias(name, "champion").version == "2"
    assert client.get_model_version_by_alias(name, "previous").version == "1"


@pytest.fixture
def config(tmp_path, tiny_streets, mlflow_server):
    settings = load_settings("streets", [*tiny_streets, "name=killed", "iterations.rounds=1"])
    content = settings.model_dump(mode="json", exclude_defaults=True)
    content["promotion"] = {"gate_frames": 2, "most_miou_loss": 1, "most_class_loss": 1, "most_latency_ratio": 50}
    content["tracking"] = {"uri": mlflow_server.uri}
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def check_registry(promotion, folder):
    """Whoever looks now finds one champion, and whole versions."""
    fresh = Promotion(promotion.registry.uri, promotion.registry.name)
    head = fresh.ledger.head()
    assert head is not None and fresh.registry.alias("champion") == head.version
    for number, version in enumerate(fresh.registry.versions()):
        fetched = fresh.registry.download(version.version, folder / f"{number}-{random.random()}")
        assert fetched.training is not None and fetched.golden[0] is not None
    return head


def test_a_retraining_that_is_killed_at_any_moment_leaves_the_registry_consistent_and_goes_on(
    config, mlflow_server, tmp_path
):
    settings = load_settings(str(config))
    Pipeline(settings, tmp_path / "first", resume=False, warn=print).run()
    promotion = Promotion(mlflow_server.uri, "killed")
    version = register_run(promotion.registry, tmp_path / "first").version
    assert promotion.gate(version, settings).passed
    promotion.promote(version, why="the first")
    command = [*COMMAND, "retrain", str(config), "--out", str(tmp_path / "job"), "--json"]
    rng = random.Random(0)
    killed = 0
    longest = 40.0
    for turn in range(KILLS):
        frames = tmp_path / f"frames-{turn}"
        frames.mkdir()
        new = Streets("train", size=(64, 128), train_frames=1, seed=turn + 1)
        (frames / "new.png").write_bytes(encode_png(new.frame(new.frame_ids[0])))
        began = time.monotonic()
        job = subprocess.Popen([*command, "--frames", str(frames)], stdout=subprocess.PIPE, start_new_session=True)
        try:
            job.wait(rng.uniform(0, longest))
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
            killed += 1
        check_registry(promotion, tmp_path / "fetched")
        again = subprocess.run([*command, "--frames", str(frames)], capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        longest = min(longest, time.monotonic() - began)
        head = check_registry(promotion, tmp_path / "fetched")
        assert head.action == "promote"
        shutil.rmtree(tmp_path / "job")
        shutil.rmtree(tmp_path / "fetched")
    assert killed >= KILLS // 2
