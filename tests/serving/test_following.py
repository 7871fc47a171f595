"""A server that follows an alias: what it fetches, checks, refuses, and keeps."""

import json
import shutil
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from serving.assembly import open_server
from serving.batching import Inference
from serving.client import Client
from serving.errors import InputError
from serving.following import FollowedRepository
from serving.frames import encode_png
from serving.model import Model
from serving.observers import Seen
from serving.registry import RegistryClient, RegistryUri
from serving.server import Server
from serving.settings import EngineSettings, ServerSettings, ShadowSettings, load_server_settings
from serving.shadow import Shadow
from tests.serving.conftest import register_three, until
from training.promotion.registry import Registry

SIZE = (24, 32)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture
def registry(uri, request, tmp_path):
    """Three versions of a model of this test alone; version 1 is champion."""
    registry = Registry(uri, request.node.name[:80])
    register_three(registry, tmp_path)
    move(registry, "1")
    return registry


def move(registry, version):
    registry.client.set_registered_model_alias(registry.name, "champion", version)


def stored(registry, version):
    """Where the store keeps a version's files."""
    found = registry.client.get_model_version_download_uri(registry.name, version)
    return Path(mlflow.artifacts.download_artifacts(found, tracking_uri=registry.uri))


def load(path, name, version):
    return Model.load(path, name=name, version=version, settings=EngineSettings(threads=1))


def follow(registry, cache):
    return FollowedRepository(RegistryUri(registry.name, "champion", None), RegistryClient(registry.uri), cache, load)


def served(repository):
    return [(model.name, model.version) for model in repository.models()]


def test_what_the_alias_means_is_served_under_the_registrys_name_and_number(registry, tmp_path):
    repository = follow(registry, tmp_path / "cache")
    assert served(repository) == [(registry.name, "1")]
    assert repository.find().digest == registry.version("1").digest
    assert not repository.refresh()
    for version in ("3", "1"):  # there, and back
        move(registry, version)
        assert repository.refresh() and served(repository) == [(registry.name, version)]
    assert not repository.refresh()


def test_a_version_in_one_piece_no_more_is_refused_once_and_the_served_one_stays(registry, tmp_path, caplog):
    repository = follow(registry, tmp_path / "cache")
    path = stored(registry, "2") / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    move(registry, "2")
    assert repository.refresh() and served(repository) == [(registry.name, "1")]
    assert "version 2 is refused" in caplog.text and "its tag onepixel.digest says" in caplog.text
    assert not repository.refresh()  # not tried again
    move(registry, "3")
    assert repository.refresh() and served(repository) == [(registry.name, "3")]


def test_a_version_that_answers_otherwise_than_where_it_was_made_is_refused(registry, tmp_path, caplog):
    golden = stored(registry, "2") / "golden" / "mask.png"
    shutil.copyfile(stored(registry, "2") / "golden" / "frame.png", golden)
    repository = follow(registry, tmp_path / "cache")
    move(registry, "2")
    repository.refresh()
    assert served(repository) == [(registry.name, "1")] and "golden frame's pixels" in caplog.text


def test_the_cache_holds_what_is_served_and_what_was_before(registry, tmp_path):
    repository = follow(registry, tmp_path / "cache")
    for version in ("2", "3"):
        move(registry, version)
        repository.refresh()
    kept = sorted(path.name for path in (tmp_path / "cache" / registry.name).iterdir() if path.is_dir())
    assert kept == ["2", "3"]
    shutil.copyfile(stored(registry, "1") / "golden" / "frame.png", stored(registry, "1") / "golden" / "mask.png")
    move(registry, "1")
    repository.refresh()  # it is refused, and takes nobody's place
    assert sorted(path.name for path in (tmp_path / "cache" / registry.name).iterdir() if path.is_dir()) == kept


def test_a_file_of_the_cache_that_is_broken_is_fetched_anew(registry, tmp_path):
    follow(registry, tmp_path / "cache")
    (tmp_path / "cache" / registry.name / "1" / "model.onnx").write_bytes(b"half")
    assert served(follow(registry, tmp_path / "cache")) == [(registry.name, "1")]


def test_a_golden_mask_of_another_size_is_refused_once(registry, tmp_path, caplog):
    (stored(registry, "2") / "golden" / "mask.png").write_bytes(encode_png(np.zeros((6, 8, 3), np.uint8)))
    repository = follow(registry, tmp_path / "cache")
    move(registry, "2")
    assert repository.refresh() and served(repository) == [(registry.name, "1")]
    assert "version 2 is refused" in caplog.text and "golden/mask.png has (6, 8) pixels" in caplog.text
    assert not repository.refresh()


@pytest.mark.parametrize("registry_is_away", [False, True])
def test_a_server_that_starts_while_the_champion_is_broken_serves_what_it_served_last(
    registry, tmp_path, caplog, registry_is_away
):
    repository = follow(registry, tmp_path / "cache")
    (stored(registry, "2") / "model.onnx").write_bytes(b"half")
    move(registry, "2")
    repository.refresh()
    reader = RegistryClient("http://127.0.0.1:9") if registry_is_away else RegistryClient(registry.uri)
    again = FollowedRepository(repository._uri, reader, tmp_path / "cache", load)
    assert served(again) == [(registry.name, "1")] and "version 1 was served last" in caplog.text
    if not registry_is_away:
        again.refresh()
        assert served(again) == [(registry.name, "1")]
        move(registry, "3")
        assert again.refresh() and served(again) == [(registry.name, "3")]
        move(registry, "2")
        with pytest.raises(InputError, match=r"version 2: model\.onnx has 4 bytes"):
            FollowedRepository(repository._uri, reader, tmp_path / "empty", load)


def test_a_server_can_start_with_what_it_served_last_while_the_registry_is_away(registry, tmp_path, caplog):
    follow(registry, tmp_path / "cache")
    away = RegistryClient("http://127.0.0.1:9")
    uri = RegistryUri(registry.name, "champion", None)
    repository = FollowedRepository(uri, away, tmp_path / "cache", load)
    assert served(repository) == [(registry.name, "1")] and "was served last" in caplog.text
    with pytest.raises(InputError, match=r"registry http://127\.0\.0\.1:9: "):
        FollowedRepository(uri, away, tmp_path / "empty", load)
    with pytest.raises(InputError, match="registry http"):
        repository.refresh()  # the watching thread says so, and goes on


def test_an_alias_that_stands_nowhere_is_told(registry, tmp_path):
    uri = RegistryUri(registry.name, "nobody", None)
    with pytest.raises(InputError, match="nobody"):
        FollowedRepository(uri, RegistryClient(registry.uri), tmp_path, lambda *_: None)


def test_a_hint_has_it_look_at_once(registry, tmp_path):
    repository = follow(registry, tmp_path / "cache")
    server = Server(repository, ServerSettings(address="127.0.0.1:0", metrics_address=""))
    server.start()
    repository.watch(seconds=3600)
    move(registry, "2")
    repository.hint()
    with Client(server.address) as client:
        frame = np.zeros((*SIZE, 3), np.uint8)
        versions = [client.segment(frame).model_version]
        deadline = time.monotonic() + 20
        while versions[-1] != "2" and time.monotonic() < deadline:
            versions.append(client.segment(frame).model_version)
    assert versions[0] == "1" and versions[-1] == "2" and set(versions) == {"1", "2"}
    repository.close()
    server.stop(grace=1)


def test_a_hint_outlasts_a_look_that_fails(registry, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("serving.repository.RETRY_SECONDS", 0.05)
    repository = follow(registry, tmp_path / "cache")
    repository.watch(seconds=3600)
    folder = stored(registry, "2")
    folder.rename(folder.with_name("away"))
    move(registry, "2")
    repository.hint()
    until(lambda: "what was served stays" in caplog.text)
    folder.with_name("away").rename(folder)
    until(lambda: served(repository) == [(registry.name, "2")])
    repository.close()


def test_files_that_were_fetched_go_with_the_server(registry, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def folders(model):
        given = [
            "metrics_address=''",
            f"model={model}",
            f"repository.registry_uri={registry.uri}",
            "address=127.0.0.1:0",
        ]
        settings = load_server_settings(overrides=given)
        with open_server(settings, settings.model) as (repository, server):
            server.start()
            found = [path.name for path in (tmp_path / "temporary").glob("onepixel-*/*/*")]
            server.stop(0)
            repository.close()
        return found, list((tmp_path / "temporary").glob("onepixel-*"))

    assert folders(model_path) == ([], [])
    found, left = folders(f"models:/{registry.name}@champion")
    assert "1" in found and not left


def test_a_shadow_sees_frames_and_says_where_it_disagrees(registry, model, tmp_path):
    settings = ServerSettings(address="127.0.0.1:0", metrics_address="")
    repository = follow(registry, tmp_path / "cache")
    server = Server(repository, settings)
    asked = ShadowSettings(model=f"models:/{registry.name}/2", share=1, report_seconds=0.01)
    shadow = Shadow(asked, RegistryClient(registry.uri), tmp_path, server.metrics.registry, 0.01)
    server.observe(shadow)
    server.start()

    def seen():
        return json.loads(registry.version("2").tags.get("onepixel.shadow", '{"frames": 0}'))

    frame = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    with Client(server.address) as client:
        while seen()["frames"] < 3:
            client.segment(frame)
    server.stop(grace=1)
    report = seen()
    assert report["agreement"] == 1.0 and report["champion"] == "1" and report["seconds"] >= 0
    assert report["disagreement"] == {"red": 0.0, "green": 0.0, "blue": 0.0}
    assert server.metrics.registry.get_sample_value("onepixel_shadow_frames_total", {"version": "2"}) >= 3


def shadow_of(registry, version, cache):
    """A shadow that is not started, and what shows it a frame that a version has answered."""
    settings = ShadowSettings(model=f"models:/{registry.name}/{version}", share=1, report_seconds=0.01)
    shadow = Shadow(settings, RegistryClient(registry.uri), cache, CollectorRegistry(), 0.01)
    frame = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)

    def show(number):
        found = registry.version(number)
        model = load(stored(registry, number) / "model.onnx", found.name, number)
        class_ids, confidence = model.infer(frame[None])
        shadow.look(Seen(model, frame, Inference(class_ids[0], confidence[0], 0, 0, 1), lambda: frame, None))

    return shadow, show


def test_a_shadow_counts_each_champion_by_itself(registry, tmp_path):
    shadow, show = shadow_of(registry, "2", tmp_path / "cache")
    shadow.idle()
    for champion in ("1", "1", "3"):
        show(champion)
    shadow._report()
    report = json.loads(registry.version("2").tags["onepixel.shadow"])
    assert (report["frames"], report["champion"]) == (1, "3")


def test_a_candidate_that_does_not_arrive_is_fetched_again(registry, tmp_path):
    shadow, show = shadow_of(registry, "2", tmp_path / "cache")
    hidden = stored(registry, "2")
    hidden.rename(hidden.with_name("away"))
    for _ in range(2):
        with pytest.raises(InputError, match="registry sqlite"):
            shadow._follow()
    hidden.with_name("away").rename(hidden)
    shadow._follow()
    show("1")
    assert shadow._seen == 1


def test_settings_know_a_registered_model_from_a_file(tmp_path):
    assert load_server_settings(overrides=["model=models:/camvid@champion"]).registered
    assert not load_server_settings(overrides=[f"model={tmp_path}"]).registered
