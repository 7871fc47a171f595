import logging
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from serving.benchmarks.tiny_model import tiny_model
from serving.errors import InputError
from serving.model import Model
from serving.repository import Repository, UnknownModel, WatchedRepository
from serving.settings import EngineSettings


def load(path: Path, name: str, version: str) -> Model:
    return Model.load(path, name=name, version=version, settings=EngineSettings(threads=1))


def put(store: Path, name: str, version: str, source: Path) -> Path:
    """Let a version appear whole, as one that deploys should."""
    folder = store / name / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = store / f".{name}-{version}"
    beside.mkdir()
    shutil.copy(source, beside / "model.onnx")
    beside.rename(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path, model_path: Path) -> Path:
    for name, version in (("streets", "9"), ("streets", "10"), ("tracks", "1")):
        put(tmp_path / "store", name, version, model_path)
    return tmp_path / "store"


def keys(repository: Repository) -> list[tuple[str, str]]:
    return [(model.name, model.version) for model in repository.models()]


def test_all_of_a_folder_is_served_by_name_and_version(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    (store / "streets" / "notes").mkdir()
    (store / "README.md").write_text("what is here")
    repository = WatchedRepository(store, load)
    assert "requests that name no model are refused; default_model: one of 'streets', 'tracks'" in caplog.text
    with pytest.raises(InputError, match="name: 'camera' is for the model of a file"):
        WatchedRepository(store, load, name="camera")
    assert keys(repository) == [("streets", "9"), ("streets", "10"), ("tracks", "1")]
    assert repository.find("streets").version == "10"  # the newest, by number
    assert repository.find("streets", "9").version == "9"
    for name, version, message in (
        ("", "", "no model is named, and none is the default; 'streets', 'tracks' are served"),
        ("roads", "", "model 'roads' is not served; 'streets', 'tracks' is"),
        ("streets", "11", "version '11' of model 'streets' is not served; '9', '10' is"),
    ):
        with pytest.raises(UnknownModel, match=message):
            repository.find(name, version)
    assert WatchedRepository(store, load, default_model="tracks").find().name == "tracks"
    with pytest.raises(InputError, match="default_model: 'roads' is not served; 'streets', 'tracks' is"):
        WatchedRepository(store, load, default_model="roads")


def test_versions_come_and_go(store: Path, model_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="serving")
    repository = WatchedRepository(store, load, default_model="streets")
    before = repository.find("streets")
    repository.refresh()
    assert repository.find("streets") is before and not caplog.records
    put(store, "streets", "11", model_path)
    shutil.rmtree(store / "streets" / "9")
    repository.refresh()
    assert keys(repository) == [("streets", "10"), ("streets", "11"), ("tracks", "1")]
    assert repository.find("streets", "10") is before
    assert repository.find("streets").version == "11"
    assert before.infer(np.zeros((1, 24, 32, 3), np.uint8))[0].shape == (1, 24, 32)
    assert [record.getMessage() for record in caplog.records] == [
        f"model streets version 11 is served (sha256 {before.digest})",
        "model streets version 9 is served no more",
    ]


def test_a_broken_version_is_refused_once_and_the_old_one_stays(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = WatchedRepository(store, load, default_model="streets")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    put(store, "streets", "11", broken)
    replaced = store / "tracks" / "1" / "model.onnx"
    before = repository.find("tracks")
    shutil.copy(broken, tmp_path / "new.onnx")
    (tmp_path / "new.onnx").replace(replaced)
    for _ in range(3):
        repository.refresh()
    assert repository.find("streets").version == "10" and repository.find("tracks") is before
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "model streets version 11 is refused",
        "model tracks version 1 is refused",
    ]


def test_a_file_that_is_replaced_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "street.onnx"
    path.write_bytes(tiny_model(24, 32))
    repository = WatchedRepository(path, load, name="camera")
    before = repository.find("camera", "1")
    (tmp_path / "new").write_bytes(tiny_model(48, 32))
    (tmp_path / "new").replace(path)
    repository.refresh()
    after = repository.find()
    assert (before.input_size, after.input_size) == ((24, 32), (48, 32)) and before.digest != after.digest
    path.unlink()
    with pytest.raises(InputError, match=r"street\.onnx: cannot be read: No such file"):
        repository.refresh()
    assert repository.find() is after


def test_a_linked_version_has_the_name_of_its_place(tmp_path: Path, model_path: Path) -> None:
    for version in ("1", "2"):
        release = tmp_path / "releases" / version
        release.mkdir(parents=True)
        shutil.copy(model_path, release / "model.onnx")
        (tmp_path / "store" / "camvid").mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / "camvid" / version).symlink_to(release)
    assert keys(WatchedRepository(tmp_path / "store", load)) == [("camvid", "1"), ("camvid", "2")]


def test_watching_follows_by_itself_and_survives_what_goes_wrong(
    store: Path, model_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = WatchedRepository(store, load, default_model="streets")
    repository.watch(0.01)
    store.rename(tmp_path / "away")
    deadline = time.monotonic() + 10
    while not caplog.records:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)
    (tmp_path / "away").rename(store)
    put(store, "streets", "12", model_path)
    while repository.find("streets").version != "12":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    repository.close()
    assert len(caplog.records) == 1 and "what was served stays" in caplog.text
    while any(thread.name == "repository" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_cannot_be_served_at_all_is_an_error(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no <name>/<version>/model\.onnx in this folder"):
        WatchedRepository(tmp_path / "empty", load)
    (store / "tracks" / "1" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"tracks/1/model\.onnx: not an ONNX file"):
        WatchedRepository(store, load)
