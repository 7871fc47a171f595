"""Files that appear whole or not at all."""

import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from serving.errors import InputError
from serving.files import whole_file

FULL = Path("/dev/full")
TOLD = r"a\.bin: cannot be written: no space is left"


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_device_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=TOLD), whole_file(tmp_path / "a.bin"):
        FULL.write_bytes(bytes(10))


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("1000 requested and 13 written"),  # numpy's
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_what_libraries_say_of_a_full_device_is_told(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InputError, match=TOLD), whole_file(tmp_path / "a.bin"):
        raise error
    with pytest.raises(OSError, match="Permission denied"), whole_file(tmp_path / "a.bin"):
        raise PermissionError(errno.EACCES, "Permission denied")
