"""How peers are chosen and asked; the two bare gRPC servers run here, the others where they are installed."""

import sys
from pathlib import Path

import pytest
from onepixel.oip import open_inference_pb2 as oip

from serving.benchmarks.bench import Bench
from serving.benchmarks.generator import Generator
from serving.benchmarks.peers.compare import run_peer
from serving.benchmarks.peers.known import PEERS, ChosenPeer, copy_programs
from serving.benchmarks.process import Cores
from serving.errors import InputError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("triton", "'triton' is unknown; one of grpc, grpc-aio, mlserver"),
        ("mlserver", "say which python holds it, such as --peer mlserver="),
        ("mlserver=/nowhere/python", "'/nowhere/python' is no program"),
    ],
)
def test_what_is_no_peer_is_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChosenPeer.parse(text)


def test_a_relative_python_is_found_from_anywhere_and_keeps_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert ChosenPeer.parse("mlserver=./python").python == str(tmp_path / "python")


def test_the_request_of_the_open_inference_protocol() -> None:
    request = oip.ModelInferRequest.FromString(PEERS["mlserver"].request(b"x" * 300))
    assert request.model_name == "segmentation"
    assert (request.inputs[0].datatype, list(request.inputs[0].shape)) == ("BYTES", [1])
    assert request.raw_input_contents[0] == (300).to_bytes(4, "little") + b"x" * 300


def test_a_peer_finds_its_program_and_the_engine_alone(tmp_path: Path) -> None:
    copy_programs(tmp_path)
    assert (tmp_path / "serving/benchmarks/engine.py").is_file()
    assert (tmp_path / "serving/benchmarks/peers/mlserver_app.py").is_file()
    assert not (tmp_path / "serving/server.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpc", "grpc-aio"])
def test_a_bare_grpc_server_beside_ours(name: str, model_path: Path, tmp_path: Path) -> None:
    cores = Cores.choose()
    with Generator(cores.generator) as generator:
        bench = Bench(model_path, tmp_path, generator, cores, scale=0.05)
        peers = run_peer(bench, ChosenPeer.parse(name)).figures["peers"]
    assert set(peers[name]) == {"tiny", "network", "ahead"}
    for pair in (peers[name]["tiny"], peers[name]["network"]):
        assert set(pair) == {"onepixel", name} and all(value > 0 for side in pair.values() for value in side.values())
