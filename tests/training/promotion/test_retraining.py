"""The retraining job on small streets: from new frames to the champion's place, and what stops it on the way."""

import fcntl
import json

import pytest
import yaml
from safetensors.torch import load_file, save_file

from serving.errors import InputError
from serving.frames import encode_png
from serving.model import Model
from training.cli import main
from training.configuration import load_settings
from training.datasets.streets import Streets
from training.pipeline import Pipeline
from training.promotion.file_checks import parity
from training.promotion.promotion import Promotion
from training.promotion.registration import register_run
from training.promotion.retraining import retrain


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_streets):
    """A configuration whose gates let any network pass that is as fast: of six updates nobody knows how good it is."""
    folder = tmp_path_factory.mktemp("retraining")
    settings = load_settings("streets", [*tiny_streets, "name=loop", "iterations.rounds=1", "training.updates=4"])
    content = settings.model_dump(mode="json", exclude_defaults=True)
    content["promotion"] = {"gate_frames": 2, "most_miou_loss": 1, "most_class_loss": 1, "most_latency_ratio": 50}
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def settings(config):
    return load_settings(str(config))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    new = Streets("train", size=(64, 128), train_frames=2, seed=1)
    for frame_id in new.frame_ids:
        (folder / f"{frame_id}.png").write_bytes(encode_png(new.frame(frame_id)))
    return folder


@pytest.fixture(scope="module")
def promotion(settings, database, tmp_path_factory):
    """The registry with a first champion."""
    run = tmp_path_factory.mktemp("runs") / "first"
    Pipeline(settings, run, resume=False, warn=print).run()
    promotion = Promotion(database, settings.name)
    version = register_run(promotion.registry, run).version
    assert promotion.gate(version, settings).passed
    promotion.promote(version, why="the first")
    return promotion


def test_new_frames_make_a_new_champion(promotion, config, frames, database, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["retrain", str(config), "--frames", str(frames), "--out", str(tmp_path / "job"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, report
    assert (report["champion"], report["candidate"], report["promoted"]) == ("1", "2", "2")
    assert report["frames"] == 2 and report["refused"] is None and report["truth_seen"]
    assert {gate["name"]: gate["passed"] for gate in report["gates"]}["parity"] is True
    assert promotion.registry.alias("champion") == "2" and promotion.registry.alias("previous") == "1"
    done = json.loads((tmp_path / "job" / "run" / "features" / "done.json").read_text())
    assert done["frames"] > 4 and len(list((tmp_path / "job" / "run" / "features").glob("extra_*.npz"))) >= 1
    kept = yaml.safe_load((tmp_path / "job" / "run" / "settings.yaml").read_text())
    assert kept["iterations"]["start"].endswith("champion/1/training/network.safetensors")


def test_a_dry_run_stops_before_the_promotion_and_goes_on_where_it_was(promotion, settings, database, frames, tmp_path):
    head = promotion.ledger.head()
    report = retrain(settings, database, frames, tmp_path / "job", dry_run=True, warn=print)
    assert report["promoted"] is None and report["refused"] is None
    assert promotion.ledger.head() == head
    (tmp_path / "job" / "report.json").unlink()  # as if it had been killed before its end
    stamp = (tmp_path / "job" / "run" / "round_0" / "network" / "done.json").stat().st_mtime_ns
    again = retrain(settings, database, frames, tmp_path / "job", dry_run=False, warn=print)
    assert again["candidate"] == report["candidate"] == again["promoted"]
    assert (tmp_path / "job" / "run" / "round_0" / "network" / "done.json").stat().st_mtime_ns == stamp


def test_a_gate_that_refuses_leaves_the_champion_and_exits_3(promotion, config, frames, tmp_path, capsys):
    head = promotion.ledger.head()
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("retrain", str(config), "--frames", str(frames), "--out", str(tmp_path / "job"), "--json"),
                *("--set", "promotion.most_size_mib=0.1"),
            ]
        )
    report = json.loads(capsys.readouterr().out)
    assert ended.value.code == 3 and report["refused"] == "size" and report["promoted"] is None
    assert promotion.ledger.head() == head


def test_two_jobs_do_not_share_a_folder(promotion, settings, database, frames, tmp_path):

    (tmp_path / "job").mkdir()
    with (tmp_path / "job" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is at work here"):
            retrain(settings, database, frames, tmp_path / "job", dry_run=True, warn=print)


def test_without_a_champion_it_says_what_makes_one(settings, database, frames, tmp_path):
    nobody = settings.model_copy(update={"name": "nobody"})
    with pytest.raises(InputError, match="nobody has no champion to start from"):
        retrain(nobody, database, frames, tmp_path / "job", dry_run=True, warn=print)


def test_a_file_that_answers_otherwise_than_its_network_is_refused_by_parity(promotion, tmp_path):
    fetched = promotion.registry.download("1", tmp_path)
    model = Model.load(fetched.model)
    streets = Streets("train", size=(64, 128), train_frames=2)
    frames = [streets.frame(frame_id) for frame_id in streets.frame_ids]
    assert parity(fetched, model, frames).passed
    path = fetched.training / "network.safetensors"
    weights = load_file(path)
    last = list(weights)[-1]
    save_file(weights | {last: -weights[last]}, path)
    refused = parity(fetched, model, frames)
    assert refused.passed is False and "its two best classes are up to" in refused.message
