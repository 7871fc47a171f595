"""The real TorchServe on Java 17; `make parity` makes the environment that this test needs."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.benchmarks.workload import street_like_jpeg
from serving.client import Client, Credentials, SegmentOptions, ServerError
from serving.errors import InputError
from serving.frames import decode_image, encode_png
from serving.model import Model
from serving.torchserve.process import check_installed

PYTHON = Path(".venv-torchserve/bin/python").absolute()
SHIPPED = Path("model_store/camvid/1/model.onnx")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python():
    """Of TorchServe's own environment, 6 GB that not everybody has."""
    if not PYTHON.exists():
        pytest.skip("TorchServe's environment is not there: `make parity` makes it, where there is Java")
    return PYTHON


@pytest.fixture(scope="module")
def torchserve(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchserve")
    environment = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    archive = folder / "camvid.mar"
    subprocess.run([python, "-m", "serving", "package", SHIPPED, "--out", archive], check=True, env=environment)
    command = [python, "-m", "serving", "torchserve", archive, "--grpc-port", "0", "--http-port", "0", "--json"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True)
    line = process.stdout.readline()
    assert line, (folder / "log").read_text()
    report = json.loads(line)
    yield report
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not Path(report["key_file"]).exists()  # nothing is left of it
    with pytest.raises(ServerError):
        Client(report["grpc"], model_name="camvid", timeout=2).model_info()


@pytest.fixture(params=["grpc", "http"])
def address(torchserve, request):
    return torchserve[request.param]


@pytest.fixture
def token(torchserve):
    return json.loads(Path(torchserve["key_file"]).read_text())["inference"]["key"]


@pytest.fixture
def client(address, token):
    with Client(address, model_name="camvid", credentials=Credentials(token=token), timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def jpeg():
    return street_like_jpeg(360, 480, 0)


@pytest.fixture(scope="module")
def expected(jpeg):
    return Model.load(SHIPPED).segment(decode_image(jpeg))[0]


def is_answered(client, jpeg, expected):
    return np.array_equal(client.segment(jpeg).mask, expected)


def test_it_says_which_model_answers(client, jpeg, expected):
    info = client.model_info()
    assert (info.name, info.version, len(info.classes)) == ("camvid", "1", 11)
    assert info.digest == client.segment(jpeg).model_digest


def test_a_truncated_frame_ends_alone(client, jpeg, expected):
    with pytest.raises(ServerError) as refused:
        client.segment(jpeg[: len(jpeg) // 2])
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert is_answered(client, jpeg, expected)


def test_a_frame_that_is_too_large_ends_alone(client, jpeg, expected):
    with pytest.raises(ServerError) as refused:
        client.segment(np.zeros((3000, 4000, 3), np.uint8))  # 36 MB; a raw frame of 2048 x 1024 has 6
    # TorchServe resets the stream of a message that is too large, or closes the connection: it says no more.
    codes = (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert refused.value.code in codes
    assert client.segment(np.zeros((1024, 2048, 3), np.uint8)).mask.shape == (1024, 2048)
    assert is_answered(client, jpeg, expected)


def test_a_large_frame_is_answered_whole(client):
    frame = np.full((4096, 4096, 3), 90, np.uint8)
    answer = client.segment(bytes(encode_png(frame[..., 0])), SegmentOptions(want_confidence=True))
    assert answer.mask.shape == answer.confidence.shape == (4096, 4096)


def test_the_line_for_curl_in_the_manual_brings_a_mask(torchserve, token, jpeg, expected, tmp_path):
    (line,) = re.findall(r"^    (curl .+)$", Path("docs/torchserve.md").read_text(), re.MULTILINE)
    (tmp_path / "frame.jpg").write_bytes(jpeg)
    line = line.replace("http://127.0.0.1:8080", torchserve["http"].replace("torchserve+http", "http"))
    subprocess.run(line, shell=True, check=True, cwd=tmp_path, env=os.environ | {"TOKEN": token})
    assert np.array_equal(decode_image((tmp_path / "mask.png").read_bytes())[..., 0], expected)


@pytest.mark.parametrize("wrong", ["", "wrong"])
def test_who_has_no_token_or_a_wrong_one_is_refused(address, client, jpeg, expected, wrong):
    with (
        Client(address, model_name="camvid", credentials=Credentials(token=wrong)) as stranger,
        pytest.raises(ServerError) as refused,
    ):
        stranger.segment(jpeg)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert is_answered(client, jpeg, expected)


def test_a_call_that_is_cancelled_hurts_nobody(address, token, client, jpeg, expected):
    def leave():
        other = Client(address, model_name="camvid", credentials=Credentials(token=token), timeout=0.01)
        with pytest.raises(ServerError):
            other.segment(jpeg)
        other.close()

    leavers = [threading.Thread(target=leave) for _ in range(8)]
    for thread in leavers:
        thread.start()
    for thread in leavers:
        thread.join()
    time.sleep(1)
    assert is_answered(client, jpeg, expected)


def test_a_stream_gives_each_frame_its_outcome_in_order(client, jpeg, expected):
    outcomes = list(client.stream([jpeg, b"broken", jpeg]))
    assert [outcome.sequence for outcome in outcomes] == [0, 1, 2]
    assert outcomes[1].error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert np.array_equal(outcomes[2].segmentation.mask, expected)


def test_a_stop_while_it_starts_leaves_nothing(python, tmp_path):
    subprocess.run([python, "-m", "serving", "package", SHIPPED, "--out", tmp_path / "camvid.mar"], check=True)
    (tmp_path / "temporary").mkdir()
    command = [python, "-m", "serving", "torchserve", tmp_path / "camvid.mar", "--grpc-port", "0", "--http-port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    while not list((tmp_path / "temporary").glob("torchserve-*/log")):  # Java has begun
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == b"" and process.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []
    listed = subprocess.run(["pgrep", "-f", str(tmp_path / "temporary")], stdout=subprocess.PIPE)
    assert listed.stdout == b""


def test_where_java_is_missing_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="needs Java 17"):
        check_installed()


def test_a_new_version_is_loaded_while_frames_flow(python):
    command = [python, "-m", "serving.torchserve.swap", "--model", SHIPPED]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert report["frames"] > 0 and report["failed"] == report["stale"] == 0
