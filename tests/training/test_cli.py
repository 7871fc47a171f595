import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.annotations.pixels import load_pixels
from training.cli import main
from training.taxonomy import CITYSCAPES


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def test_version_is_the_distributions():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert run("--version").output == f"onepixel, version {project['version']}\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from training.cli import main; "
        "CliRunner().invoke(main, ['--help']); "
        "print([m for m in ('torch', 'numpy', 'mlflow', 'grpc', 'cv2', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("command", ["demo", "train", "inspect", "evaluate", "export", "networks", "serve", "segment"])
def test_every_command_has_help_and_json(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.output


def test_the_group_of_saliency_has_help_and_json():
    assert "fit" in run("saliency", "--help").output
    assert "--json" in run("saliency", "fit", "--help").output


def test_a_users_mistake_ends_with_status_2_and_no_traceback(tmp_path):
    result = run("train", "camvid", "--set", f"dataset.root={tmp_path / 'absent'}", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "absent" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_what_goes_on(monkeypatch, tmp_path):
    def interrupted(*_arguments, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.configuration.load_settings", interrupted)
    result = run("train", "streets", "--out", str(tmp_path / "out"))
    assert (result.exit_code, result.stderr) == (130, "stopped; the same command with --resume goes on\n")
    assert run("networks", "streets").stderr == "stopped\n"


@pytest.mark.parametrize("command", [["train"], ["ablate"], ["ablate", "--pixels"]], ids=" ".join)
def test_a_wrong_pixel_file_is_told_before_torch_is_imported(command, tmp_path):
    pixels = load_pixels("streets", CITYSCAPES, "streets").model_dump()
    pixels["pixels"]["road"]["image"] = "absent"
    path = tmp_path / "pixels.yaml"
    path.write_text(json.dumps(pixels))
    given = [str(path)] if "--pixels" in command else ["--set", f"pixels={path}"]
    arguments = [command[0], "streets", *command[1:], *given, "--out", str(tmp_path / "out")]
    code = f"import sys; sys.modules['torch'] = None; from training.cli import main; main({arguments})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    there = "it has 48: streets_train_0000 to streets_train_0047"
    assert done.stderr == f"error: pixel file {path}: road: no frame 'absent' in split 'train' of streets; {there}\n"


def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['mlflow'] = None; "
        "from training.cli import main; main(['train', 'streets', '--out', '/nonexistent/out'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'onepixel[training,cpu]'" in done.stderr


def test_evaluate_wants_a_model(tmp_path):
    result = run("evaluate", "--model", str(tmp_path / "absent.onnx"), "--dataset", "streets")
    assert result.exit_code == 2
    assert "absent.onnx" in result.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.stdout)


def test_inspect_writes_a_page(tmp_path):
    out, pixels = tmp_path / "page.html", tmp_path / "pixels.yaml"
    anywhere = {
        name: {"image": "streets_train_0000", "x": 7 * index, "y": 40} for index, name in enumerate(CITYSCAPES.names)
    }
    pixels.write_text(json.dumps({"dataset": "streets", "pixels": anywhere}))
    tiny = ["dataset.limit=1", "dataset.size=[64, 160]", "cam.slice_height=65", "workers=1"]
    tiny += ["embedding.passes=[{height: 65, layers: [features.3, features.17], weights: [1, 1]}]"]
    arguments = ["inspect", "streets", "--frame", "streets_train_0000", "--out", str(out), "--json"]
    for setting in [*tiny, f"pixels={pixels}"]:
        arguments += ["--set", setting]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["page"] == str(out) and report["frame"] == "streets_train_0000" and report["frames"] == 1
    assert report["superpixels"] > 1
    assert report["bytes"] == out.stat().st_size and out.read_text().startswith("<!doctype html>")


def test_inspect_names_the_frames_there_are(tmp_path):
    result = run("inspect", "streets", "--frame", "absent", "--out", str(tmp_path / "page.html"))
    assert result.exit_code == 2
    assert "--frame absent" in result.stderr and "streets_train_0000" in result.stderr
    assert not list(tmp_path.iterdir())
