import errno
import fcntl

import pytest

from serving.errors import InputError
from training.run_folder import claimed, link_files


def test_a_folder_is_one_processs_until_it_lets_go(tmp_path):
    for _ in range(2):
        run, told = tmp_path / "run", pytest.raises(InputError, match="another process is at work here")
        with claimed(run), told, claimed(run):
            pass


def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def unlocked(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unlocked)
    with claimed(tmp_path):
        assert caplog.messages == [f"{tmp_path}: cannot be kept from other processes: Function not implemented"]


def test_files_are_linked_whatever_their_kind_and_those_that_are_there_stay(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir()
    for name in ("frame.npz", "basis.safetensors", "deep/mask.png"):
        (source / name).write_text(name)
    (target / "frame.npz").write_text("mine")
    link_files(source, target)
    assert (target / "frame.npz").read_text() == "mine"
    for name in ("basis.safetensors", "deep/mask.png"):
        assert (target / name).samefile(source / name)
