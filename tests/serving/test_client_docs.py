"""What docs/clients.md shows runs: its Python here, the camera in C++ where Debian's grpc is installed."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from serving.frames import decode_image
from serving.model import Model
from serving.server import Server

DOCS = Path("docs/clients.md")
CPP = Path("docs/clients/cpp").resolve()
NEEDED = ("cmake", "c++", "protoc", "grpc_cpp_plugin")


def test_the_python_example_runs(
    server: Server, jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(from serving\.client.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "frame.jpg").write_bytes(jpeg)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example.replace("127.0.0.1:50051", server.address), names)
    assert isinstance(names["picture"], np.ndarray) and names["picture"].shape == (96, 128, 3)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["0", "1", "2"]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", DOCS.read_text()))))
def test_link_leads_somewhere(link: str) -> None:
    assert link.startswith("http") or (DOCS.parent / link).exists()


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; docs/clients.md says which Debian packages have them")
    folder = tmp_path_factory.mktemp("camera")
    for command in (["cmake", "-S", str(CPP), "-B", str(folder)], ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "camera"


@pytest.fixture
def folder(jpeg: bytes, tmp_path: Path) -> Path:
    """Twenty JPEG files, and one file that is none of the camera's."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index:02}.jpg").write_bytes(jpeg)
    (folder / "notes.txt").write_text("no frame")
    return folder


@pytest.fixture
def busy(gated: Model) -> Iterator[Server]:
    server = Server(gated)
    server.start()
    yield server
    gated.gate.release(100)
    server.stop(1)


@pytest.mark.slow
def test_the_camera_writes_masks_and_names_a_bad_frame(
    camera: Path, server: Server, folder: Path, model: Model, jpeg: bytes, tmp_path: Path
) -> None:
    (folder / "07.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    out = tmp_path / "new" / "masks"
    command = [str(camera), server.address, str(folder), str(out), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("07.jpg: error 3: image: the JPEG is truncated")
    assert done.stdout == "20 frames: 19 masks, 0 dropped, 1 failed\n"
    expected, _ = model.segment(decode_image(jpeg))
    assert len(list(out.iterdir())) == 19
    for path in out.iterdir():
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)


@pytest.mark.slow
def test_the_camera_tells_drops(camera: Path, busy: Server, gated: Model, folder: Path, tmp_path: Path) -> None:
    command = [str(camera), busy.address, str(folder), str(tmp_path / "out"), "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(2)  # until all are sent: none is answered meanwhile
        gated.gate.release(100)
        printed, told = process.communicate(timeout=30)
    dropped = told.count("DROP_REASON_OVERFLOW")
    assert process.returncode == 0 and dropped > 0
    assert printed == f"20 frames: {20 - dropped} masks, {dropped} dropped, 0 failed\n"


@pytest.mark.slow
def test_the_camera_says_what_is_wrong(camera: Path, folder: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        command = [str(camera), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert run() == run("x", "none", "out") == run("x", folder, "out", "0")
    assert run()[0] == 2 and run()[1].startswith("usage: camera HOST:PORT")
    assert run("x", folder, os.devnull + "/out")[0] == 2
    code, told = run("127.0.0.1:1", folder, tmp_path / "out")
    assert code == 1 and told.startswith("the stream ended: 14: failed to connect")
