"""A version of the registered model: whole, of the exact bytes, once."""

import hashlib
from pathlib import Path

import mlflow
import numpy as np
import pytest

from serving.errors import InputError
from serving.model import Model
from serving.registry import RegistryUri, check_digest, check_golden
from training.promotion.promotion import Promotion


def test_a_version_holds_the_exact_bytes_and_what_they_answer(promotion, tiny_file, frame, tmp_path):
    path = tiny_file()
    version = promotion.registry.register(path, golden_frame=frame)
    assert version.version == "1" and version.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert version.tags["onepixel.precision"] == "fp32" and version.tags["onepixel.gates"] == "none"
    assert promotion.registry.alias("candidate") == "1" and promotion.registry.alias("champion") is None
    fetched = promotion.registry.download("1", tmp_path / "fetched")
    assert fetched.model.read_bytes() == path.read_bytes()
    golden_frame, golden_mask = fetched.golden
    np.testing.assert_array_equal(golden_frame, frame)
    np.testing.assert_array_equal(golden_mask, frame.argmax(axis=2))
    check_digest(fetched.folder, version)
    assert check_golden(fetched.folder, Model.load(fetched.model)) == 1.0
    assert fetched.training is None


def test_its_files_lie_beside_a_sqlite_database_wherever_one_stands(tiny_file, frame, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    promotion = Promotion(f"sqlite:///{tmp_path / 'mlflow.db'}", "mine")
    promotion.registry.register(tiny_file(), golden_frame=frame)
    assert list((tmp_path / "mlartifacts").rglob("model.onnx")) and not list(Path.cwd().iterdir())


def test_it_is_a_model_that_mlflow_itself_can_load(promotion, tiny_file, frame):
    promotion.registry.register(tiny_file(), golden_frame=frame)
    loaded = mlflow.pyfunc.load_model(f"models:/{promotion.registry.name}@candidate")
    np.testing.assert_array_equal(loaded.predict(frame[None])["class_ids"][0], frame.argmax(axis=2))
    info = mlflow.models.get_model_info(f"models:/{promotion.registry.name}/1")
    assert info.signature.inputs.inputs[0].name == "frames" and "onnx" in info.flavors
    assert info.saved_input_example_info is not None


def test_the_same_file_is_the_same_version_and_the_candidate_again(promotion, tiny_file, frame):
    first, second = tiny_file(1), tiny_file(2)
    versions = [promotion.registry.register(path, golden_frame=frame).version for path in (first, second, first)]
    assert versions == ["1", "2", "1"]
    assert promotion.registry.alias("candidate") == "1"
    assert [one.version for one in promotion.registry.versions()] == ["1", "2"]


def test_what_a_retraining_starts_from_comes_with_it_or_is_named(promotion, tiny_file, frame, tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    for name in ("network.safetensors", "settings.yaml"):
        (training / name).write_text(name)
    with pytest.raises(InputError, match=r"pixels\.yaml is missing"):
        promotion.registry.register(tiny_file(), golden_frame=frame, training=training)
    assert promotion.registry.versions() == []  # nothing half-made is visible
    (training / "pixels.yaml").write_text("pixels")
    promotion.registry.register(tiny_file(), golden_frame=frame, training=training)
    fetched = promotion.registry.download("1", tmp_path / "fetched")
    assert (fetched.training / "network.safetensors").read_text() == "network.safetensors"


def test_what_is_no_model_is_refused(promotion, tmp_path, frame):
    (tmp_path / "half.onnx").write_bytes(b"half")
    with pytest.raises(InputError, match=r"half\.onnx: not an ONNX file"):
        promotion.registry.register(tmp_path / "half.onnx", golden_frame=frame)
    with pytest.raises(InputError, match="has no version 7"):
        promotion.registry.version("7")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("models:/camvid@champion", ("camvid", "champion", None)), ("models:/camvid/12", ("camvid", None, "12"))],
)
def test_names_of_registered_models(text, parts):
    uri = RegistryUri.parse(text)
    assert (uri.name, uri.alias, uri.version) == parts


@pytest.mark.parametrize("text", ["models:/camvid", "models:/camvid/", "models:/camvid/0", "models:/a/b@c", "camvid@x"])
def test_other_names_are_refused(text):
    with pytest.raises(InputError, match=r"models:/NAME@ALIAS or models:/NAME/VERSION"):
        RegistryUri.parse(text)
