import re
from pathlib import Path

import pytest

from serving.configuration import parse
from serving.errors import InputError
from serving.settings import ServerSettings, load_server_settings


def test_the_later_source_wins(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("address: 0.0.0.0:1\nqueue: {max_wait: 3, max_batch: 4}\nlimits: {places: 9}\n")
    environment = {"ONEPIXEL_SET_QUEUE__MAX_WAIT": "5", "ONEPIXEL_SET_LIMITS__PLACES": "8", "PATH": "/bin"}
    settings = load_server_settings(path, ["limits.places=7", "model=street.onnx"], environment)
    assert (settings.address, settings.queue.max_wait, settings.queue.max_batch) == ("0.0.0.0:1", 5, 4)
    assert (settings.limits.places, settings.model) == (7, Path("street.onnx"))
    assert load_server_settings() == ServerSettings()


def test_yaml_may_bring_in_what_stands_elsewhere() -> None:
    assert parse("a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\n", "here")["b"] == {"x": 1, "y": 3}


def test_settings_are_printed_without_a_password() -> None:
    settings = load_server_settings(None, ["repository.registry_uri=https://me:hush-hush@mlflow.example/"])
    assert settings.repository.registry_uri == "https://me:hush-hush@mlflow.example/"
    assert "hush" not in (printed := settings.model_dump_json()) and "https://mlflow.example/" in printed


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        (["queue.wait=1"], {}, r"--set queue\.wait=1: unknown key 'queue\.wait'; did you mean 'queue\.max_wait'\?"),
        (
            ["queue.max_wait=-1"],
            {},
            r"--set queue\.max_wait=-1: queue\.max_wait: .* greater than 0, got -1",
        ),
        (["queue.max_wait"], {}, r"--set queue\.max_wait: must be key=value, such as queue\.max_wait=2"),
        (["address.host=a"], {}, r"settings: address: Input should be a valid string"),
        ([], {"ONEPIXEL_SET_QUEUE__MAX_WAIT": "["}, "ONEPIXEL_SET_QUEUE__MAX_WAIT: the value is not YAML"),
        ([], {"ONEPIXEL_SET_NOTHING": "1"}, "settings: unknown key 'nothing'"),
        (
            ["engine.backend=openvino", "engine.device=cuda"],
            {},
            "engine: backend 'openvino' runs on device 'cpu', not on",
        ),
        (["engine.precision=bf16"], {}, "'onnxruntime' on device 'cpu' has no precision 'bf16'; it has fp32"),
        (["engine.backend=openvino", "engine.spinning=true"], {}, "spinning is a setting of backend 'onnxruntime'"),
        (["engine.cuda_graphs=true"], {}, "cuda_graphs needs device 'cuda' or 'tensorrt'"),
        (["engine.device=cuda", "engine.cache=a"], {}, "cache is a setting of device 'tensorrt'"),
        (["security.client_authorities=a"], {}, "client_authorities needs certificate and private_key"),
    ],
)
def test_what_is_wrong_is_named(overrides: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_server_settings(None, overrides, environment)


def test_a_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"configuration .*none\.yaml cannot be read"):
        load_server_settings(tmp_path / "none.yaml")
    path = tmp_path / "server.yaml"
    path.write_text("limits: {place: 9}\n")
    with pytest.raises(InputError, match=r"server\.yaml: unknown key 'limits\.place'; did you mean 'limits\.places'"):
        load_server_settings(path)


def test_the_documented_settings_are_settings(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", Path("docs/serving.md").read_text(), re.DOTALL)
    path = tmp_path / "server.yaml"
    path.write_text(example)
    assert load_server_settings(path).queue.max_wait == 0.5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=models:/camvid@champion", "name=streets"], "name: 'streets' is for the model of a file"),
        (["model=tiny.onnx", "repository.hint_secret=secret"], "hint_secret needs a model of a registry"),
        (["model=models:/a@b", "metrics_address=''", "repository.hint_secret=secret"], "and metrics_address"),
    ],
)
def test_what_would_do_nothing_is_told(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_server_settings(overrides=overrides)
