"""The clients of other servers, each in an environment of its own, against a server process: `make test-slow`.

They need a protobuf below ours, and each registers the protocol's names for itself. Needs a package registry.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from serving.frames import Pixels, encode_png
from serving.model import Model

pytestmark = pytest.mark.slow

CLIENTS = {"triton": "tritonclient[grpc]==2.73.0", "mlserver": "mlserver==1.7.1", "kserve": "kserve==0.21.0"}
FOLDER = Path(__file__).parent / "clients"
UV = [sys.executable, "-m", "uv"]
CLEAN = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def address(model_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "serving", "serve", "--model", str(model_path), "--metrics-address", ""]
    options = ["--address", "127.0.0.1:0", "--json"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
        process.terminate()


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the interpreter of a client's environment, which is made when it is first asked for."""

    @cache
    def interpreter(client: str) -> Path:
        folder = tmp_path_factory.mktemp(client)
        python = folder / "bin" / "python"
        subprocess.run([*UV, "venv", "--quiet", "--clear", str(folder)], check=True)
        subprocess.run([*UV, "pip", "install", "--quiet", "--python", str(python), CLIENTS[client]], check=True)
        return python

    return interpreter


def run(python: Path, script: str, *arguments: str, folder: Path) -> None:
    path = folder / "script.py"  # a client's own name would hide the package that it imports
    path.write_text(script)
    command = [str(python), str(path), *arguments]
    done = subprocess.run(command, cwd=folder, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_models_masks(
    client: str, interpreter: Callable[[str], Path], address: str, frame: Pixels, model: Model, tmp_path: Path
) -> None:
    frames = np.stack([frame, frame[::-1]])
    np.save(tmp_path / "frames.npy", frames)
    for index, picture in enumerate(frames):
        (tmp_path / f"{index}.png").write_bytes(encode_png(picture))
    run(interpreter(client), (FOLDER / f"{client}.py").read_text(), address, str(tmp_path), folder=tmp_path)
    expected = [model.segment(np.ascontiguousarray(picture)) for picture in frames]
    with np.load(tmp_path / "masks.npz") as masks:
        assert len(masks.files) >= 4
        for name in masks.files:
            plane = 0 if "class_ids" in name else 1
            assert np.array_equal(masks[name], [answer[plane] for answer in expected]), name


def test_the_documented_example_runs(
    interpreter: Callable[[str], Path], address: str, jpeg: bytes, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```python\n(import numpy.*?)```", Path("docs/clients.md").read_text(), re.DOTALL)
    (tmp_path / "frame.jpg").write_bytes(jpeg)
    example = example.replace("127.0.0.1:50051", address).replace("camvid", "tiny")
    check = "assert mask.shape == confidence.shape == (96, 128) and masks.shape == (2, 360, 480)\n"
    run(interpreter("triton"), example + check, folder=tmp_path)
