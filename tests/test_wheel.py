"""The wheel in empty environments: `make test-slow`. Needs a package registry, and minutes for the training extra."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

UV = [sys.executable, "-m", "uv"]
CLEAN = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*UV, "build", "--wheel", "--quiet", "--out-dir", str(folder)], check=True)
    (path,) = folder.glob("onepixel-*.whl")
    return path


def install(wheel, folder, extras):
    subprocess.run([*UV, "venv", "--quiet", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*UV, "pip", "install", "--quiet", "--python", str(python), f"{wheel}{extras}"], check=True)
    return folder / "bin"


def run(*command, folder):
    return subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, check=False)


def test_the_wheel_holds_packages_contract_and_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "training/cli.py",
        "training/configs/camvid.yaml",
        "training/annotations/camvid.yaml",
        "training/features/crop_classifier.safetensors",
        "training/inspection/assets/page.html",
        "training/inspection/assets/main.js",
        "training/features/saliency/forest.onnx",
        "serving/server.py",
        "serving/view/assets/page.html",
        "onepixel/v1/segmentation.proto",
        "onepixel/v1/segmentation_pb2.py",
        "onepixel/oip/open_inference.proto",
        "onepixel/oip/open_inference_pb2.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "proto/"))]


def test_serving_and_cpu_alone(wheel, tmp_path):
    binaries = install(wheel, tmp_path / "venv", "[serving,cpu]")
    listed = run(*UV, "pip", "list", "--python", str(binaries / "python"), folder=tmp_path).stdout
    assert "torch" not in listed and "mlflow" not in listed
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(Path("serving").rglob("*.py"))
        if path.name != "__main__.py"
    ]
    imported = run(str(binaries / "python"), "-c", f"import {', '.join(modules)}", folder=tmp_path)
    assert imported.returncode == 0, imported.stderr
    assert run(str(binaries / "onepixel"), "--version", folder=tmp_path).stdout.startswith("onepixel, version")
    refused = run(str(binaries / "onepixel"), "train", "streets", folder=tmp_path)
    assert refused.returncode == 2 and "onepixel[training,cpu]" in refused.stderr


def test_training_and_cpu(wheel, tmp_path):
    binaries = install(wheel, tmp_path / "venv", "[training,cpu]")
    options = ["dataset.limit=2", "training.updates=1", "iterations.rounds=1", "workers=1"]
    command = [str(binaries / "onepixel"), "train", "streets", "--out", "run", "--json"]
    for option in options:
        command += ["--set", option]
    done = run(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
