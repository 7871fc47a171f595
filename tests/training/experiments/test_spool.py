"""What is to be said stays on disk until it has been said."""

import resource
from pathlib import Path

import pytest

from training.experiments.spool import Spool


def test_records_are_said_in_order_and_once(tmp_path):
    spool = Spool(tmp_path)
    for number in range(3):
        spool.add("number", value=number)
    said = []
    while (record := spool.next()) is not None:
        said.append(record["value"])
        spool.said(record)
    assert said == [0, 1, 2] and spool.waiting == 0
    again = Spool(tmp_path)
    assert again.waiting == 0 and [record["value"] for record in again.records] == said


def test_what_was_not_said_is_there_for_the_next_process(tmp_path):
    spool = Spool(tmp_path)
    spool.add("number", value=0)
    spool.add("file", path=spool.keep(b"picture", "a.png"))
    spool.said(spool.next())
    again = Spool(tmp_path)
    (record,) = [again.next()]
    assert again.waiting == 1 and record["kind"] == "file"
    assert again.file(record["path"]).read_bytes() == b"picture"
    again.said(record)
    assert not any(path.is_file() for path in (tmp_path / "files").rglob("*"))


@pytest.mark.parametrize("torn", [b'{"kind": "num', b"\x00\x00"])
def test_a_torn_line_is_cut_off(tmp_path, torn):
    Spool(tmp_path).add("number", value=0)
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(torn)
    spool = Spool(tmp_path)
    spool.add("number", value=1)
    assert [record["value"] for record in Spool(tmp_path).records] == [0, 1]


def test_a_record_that_only_half_fits_is_taken_back(tmp_path):
    spool = Spool(tmp_path)
    spool.add("number", value=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "records.jsonl").stat().st_size + 9, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.add("number", value=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    spool.add("number", value=2)
    assert [record["value"] for record in Spool(tmp_path).records] == [0, 2]


def test_files_are_found_when_the_folder_was_moved_or_is_called_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    spool = Spool(Path("run/tracking"))
    Path("run/model.onnx").write_bytes(b"model")
    spool.add("model", model=spool.name(Path("run/model.onnx")), path=spool.keep(b"picture", "a.png"))
    Path("run").rename("moved")
    monkeypatch.chdir("moved")
    again = Spool(Path("tracking"))
    record = again.next()
    assert record is not None
    assert (again.file(record["model"]).read_bytes(), again.file(record["path"]).read_bytes()) == (b"model", b"picture")
    again.said(record)
    assert not any(path.is_file() for path in Path("tracking/files").rglob("*"))


def test_what_a_power_cut_took_is_not_waited_for(tmp_path):
    spool = Spool(tmp_path)
    spool.add("number", value=0)
    (tmp_path / "sent").write_text("2")
    again = Spool(tmp_path)
    again.add("number", value=1)
    record = again.next()
    assert record is not None and record["value"] == 1
