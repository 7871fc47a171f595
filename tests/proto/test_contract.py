"""The wire contract is well made, and is what the last release (`released.binpb`) promised; buf judges both."""

import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from onepixel.oip import open_inference_pb2
from onepixel.v1 import segmentation_pb2

HERE = Path(__file__).parent
OWN = "proto/onepixel/v1/segmentation.proto"
SEARCH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for contract in Path("proto").rglob("*.proto"):
        (tmp_path / contract).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(contract, tmp_path / contract)
    status = tmp_path / "googleapis" / "google" / "rpc" / "status.proto"
    status.parent.mkdir(parents=True)
    status.write_bytes((files("google.rpc") / "status.proto").read_bytes())
    shutil.copy(HERE / "buf.yaml", tmp_path)
    return tmp_path


def buf(workspace: Path, *arguments: str) -> str:
    """Return what it complains about."""
    executable = shutil.which("buf", path=SEARCH)
    assert executable, "buf is missing: `make setup` installs it"
    done = subprocess.run(
        [executable, *arguments], cwd=workspace, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def breaking(workspace: Path) -> str:
    assert buf(workspace, "build", "--exclude-source-info", "--output", "current.binpb") == ""
    return buf(
        workspace, "breaking", "current.binpb", "--config", "buf.yaml", "--against", str(HERE / "released.binpb")
    )


def test_names_and_comments_keep_the_rules(workspace: Path) -> None:
    assert buf(workspace, "lint") == ""


def test_the_last_release_is_still_understood(workspace: Path) -> None:
    assert breaking(workspace) == ""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("uint64 sequence = 2;", "", 'Previously present field "2" with name "sequence"'),
        ("uint64 sequence = 2;", "uint64 sequence = 9;", 'Previously present field "2"'),
        ("uint64 sequence = 2;", "uint32 sequence = 2;", 'changed type from "uint64" to "uint32"'),
        ("uint64 sequence = 2;", "uint64 number = 2;", 'changed name from "sequence" to "number"'),
        ("MASK_ENCODING_RLE = 3;", "MASK_ENCODING_RLE = 4;", 'Previously present enum value "3"'),
        ("rpc GetModelInfo(", "rpc DescribeModel(", 'Previously present RPC "GetModelInfo"'),
        ("returns (stream StreamSegmentResponse)", "returns (StreamSegmentResponse)", "changed from server streaming"),
    ],
)
def test_a_broken_promise_is_noticed(workspace: Path, old: str, new: str, complaint: str) -> None:
    contract = workspace / OWN
    assert old in contract.read_text()
    contract.write_text(contract.read_text().replace(old, new))
    assert complaint in breaking(workspace)


def test_the_stubs_are_those_of_the_contracts(workspace: Path) -> None:
    assert buf(workspace, "build", "--exclude-source-info", "--output", "current.binpb") == ""
    files = FileDescriptorSet.FromString((workspace / "current.binpb").read_bytes()).file
    contracts = {file.name: file for file in files}
    for stubs in (segmentation_pb2, open_inference_pb2):
        generated = FileDescriptorProto()
        stubs.DESCRIPTOR.CopyToProto(generated)
        written = re.sub(r"\n *json_name: .*", "", str(contracts[generated.name]))  # which protoc does not fill in
        assert str(generated) in written, "`make proto` was not run after a change"
