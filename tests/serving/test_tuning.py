"""`tune` as a person runs it, and what it must keep to: the gates, and what was in the file before."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from serving import tuning
from serving.__main__ import main
from serving.commands import SHIPPED_MODEL
from serving.frames import Pixels, encode_png
from serving.model import Model
from serving.settings import load_server_settings
from serving.tuning import GATES, read_frames, tune, write_settings
from training.datasets.streets import render

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["tune", *map(str, arguments)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ROUNDS", 2)
    monkeypatch.setattr(tuning, "TURN", 0.0)


@pytest.fixture
def frames() -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path, frames: list[Pixels]) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(frames):
        (folder / f"{index}.png").write_bytes(encode_png(frame))
    return folder


def test_the_fastest_is_written_as_settings_that_run(model_path: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "server.yaml"
    result = run(model_path, "--frames", folder, "--out", out, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    told = json.loads(line)
    assert (told["compared_frames"], told["calibration_frames"], told["out"]) == (3, 2, str(out))
    by_name = {one["candidate"]: one for one in told["results"]}
    assert by_name["onnxruntime fp32"]["agreement"] == 1.0
    assert ("tensorrt fp32" in by_name) and ("openvino bf16" in by_name) == HAS_OPENVINO
    for one in told["results"]:
        assert (one["missing"] is None) == (one["milliseconds"] is not None)
        assert one["passes"] or not one["chosen"]
    assert sum(one["chosen"] for one in told["results"]) == 1
    settings = load_server_settings(out)
    assert settings.model is not None and str(settings.model) == told["model"]
    assert settings.engine.model_dump(mode="json") == told["engine"] and settings.engine.threads == 1
    Model.load(settings.model, settings=settings.engine)
    assert out.read_text().startswith("# By `onepixel tune`, 20") and "onnxruntime fp32: " in out.read_text()


def test_a_person_gets_a_table(model_path: Path, folder: Path) -> None:
    result = run(model_path, "--frames", folder)
    assert result.exit_code == 0, result.output
    assert "candidate               p50 ms  CPU ms  masks alike  at least" in result.stdout
    assert "100.0000%    99.99%" in result.stdout and "the masks of 3 frames were compared" in result.stdout


def test_what_misses_its_gate_is_not_chosen(model_path: Path, frames: list[Pixels]) -> None:
    unreachable = dict.fromkeys(GATES, 1.1) | {"fp32": 1.0}
    told = tune(model_path, frames, gates=unreachable)
    assert [one.candidate for one in told.results if one.passes] == [
        name for name in ("onnxruntime fp32", "openvino fp32") if HAS_OPENVINO or "openvino" not in name
    ]
    assert told.engine.precision == "fp32" and told.model == model_path


def test_an_int8_file_that_is_chosen_is_kept_under_the_models_name(
    model_path: Path, frames: list[Pixels], tmp_path: Path
) -> None:
    only_int8 = dict.fromkeys(GATES, 1.1) | {"int8": 0.5}
    told = tune(model_path, frames, folder=tmp_path, gates=only_int8)
    assert told.model == tmp_path / "tiny.int8.onnx"
    write_settings(told, tmp_path / "server.yaml")
    settings = load_server_settings(tmp_path / "server.yaml")
    model = Model.load(told.model, name=settings.name, settings=settings.engine)
    assert (model.name, model.metadata.precision) == ("tiny", "int8")
    assert model.metadata.source_digest == Model.load(model_path).digest
    assert tune(model_path, frames, gates=only_int8).model is None


def test_other_settings_stay(model_path: Path, frames: list[Pixels], tmp_path: Path) -> None:
    out = tmp_path / "server.yaml"
    out.write_text("address: 0.0.0.0:1\nengine: {spinning: true}\nmodel: old.onnx\n")
    told = tune(model_path, frames, gates=dict.fromkeys(GATES, 1.1) | {"fp32": 0.9999})
    write_settings(told, out)
    tree = yaml.safe_load(out.read_text())
    assert (tree["address"], tree["model"]) == ("0.0.0.0:1", str(model_path))
    assert tree["engine"].keys() <= {"backend", "device", "threads"} and "name" not in tree


def test_frames_are_taken_evenly_and_resized(folder: Path) -> None:
    every_second = read_frames(folder, 3, (12, 16))
    assert [frame.shape for frame in every_second] == [(12, 16, 3)] * 3
    whole = read_frames(folder, 100, (24, 32))
    assert len(whole) == 5 and np.array_equal(read_frames(folder, 3, (24, 32)), whole[::2])


def test_what_a_user_can_mend_exits_2(model_path: Path, folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "1.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "2.png").write_bytes(b"no image")
    other = tmp_path / "other.yaml"
    other.write_text("a: b\n")
    for arguments, message in (
        ((model_path, "--frames", tmp_path / "none"), "is no folder"),
        ((model_path, "--frames", alone), "alone holds 1 images (.jpeg, .jpg, .png, .webp); two at least are needed"),
        ((model_path, "--frames", folder), "2.png: image: text, beginning 'no image'"),
        ((tmp_path / "none.onnx", "--frames", folder), "none.onnx: cannot be read: No such file"),
        ((model_path, "--frames", folder, "--frames-limit", 1), "1 is not in the range x>=2"),
        ((model_path, "--frames", folder, "--frames-limit", 2, "--out", other), "other.yaml: unknown key 'a'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and message in result.stderr and result.stdout == "", result.output


@pytest.mark.slow
def test_the_shipped_model_keeps_its_masks_on_the_fp32_engines(tmp_path: Path) -> None:
    told = tune(SHIPPED_MODEL, [render((360, 480), "train", index, 0)[0] for index in range(8)], folder=tmp_path)
    by_name = {one.candidate: one for one in told.results}
    assert by_name["onnxruntime fp32"].agreement == 1.0
    assert by_name["onnxruntime int8"].agreement is not None and by_name["onnxruntime int8"].agreement > 0.9
    assert not HAS_OPENVINO or by_name["openvino fp32"].passes
