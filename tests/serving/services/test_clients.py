"""The clients of other servers, each in an environment of its own, against a server process: `make test-slow`.

They need a protobuf below ours, and each registers the protocol's names for itself. Needs a package registry.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
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
    command = [sys.executable, "-m", "tests.serving.services.adapter", str(model_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_the_models_masks(client: str, address: str, frame: Pixels, model: Model, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*UV, "venv", "--quiet", str(tmp_path / "venv")], check=True)
    subprocess.run([*UV, "pip", "install", "--quiet", "--python", str(python), CLIENTS[client]], check=True)
    frames = np.stack([frame, frame[::-1]])
    np.save(tmp_path / "frames.npy", frames)
    for index, picture in enumerate(frames):
        (tmp_path / f"{index}.png").write_bytes(encode_png(picture))
    script = tmp_path / "client.py"  # its own name would hide the package that it imports
    script.write_text((FOLDER / f"{client}.py").read_text())
    command = [str(python), str(script), address, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [model.segment(np.ascontiguousarray(picture)) for picture in frames]
    with np.load(tmp_path / "masks.npz") as masks:
        assert len(masks.files) >= 4
        for name in masks.files:
            plane = 0 if "class_ids" in name else 1
            assert np.array_equal(masks[name], [answer[plane] for answer in expected]), name
