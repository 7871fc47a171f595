"""Files that appear whole or not at all."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import InputError

_LEAST_FREE = 2**16
"""Bytes: a write that failed on a device with less has failed for that."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` when the block ends, and goes if it fails.

    Whoever reads `path`, after a kill at any point too, finds the old file or the new one, never half of one. The
    folder is made where it is missing; the temporary name keeps the suffix, for writers that go by it.

    Raises
    ------
    InputError
        If the block fails since no space is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except InputError:
        raise
    except Exception as error:
        if _for_lack_of_space(error, path.parent):
            raise InputError(f"{path}: cannot be written: no space is left there; make some, and go on") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _for_lack_of_space(error: Exception, folder: Path) -> bool:
    """Tell whether a write failed for it; each library says so in its own way, or not at all."""
    said = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return said or "No space left on device" in str(error) or shutil.disk_usage(folder).free < _LEAST_FREE
