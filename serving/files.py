"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import InputError

_FULL = ("No space left on device", "Disk quota exceeded", " requested and ")
"""What errors of writing say where there is no space: the system's and safetensors', and numpy's of a short write."""


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
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    with told_where_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def told_where_full(path: Path) -> Iterator[None]:
    """Turn an error of writing `path` for lack of space, whichever library's, into an `InputError`; others stay."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, InputError) and any(words in str(error) for words in _FULL):
            raise InputError(f"{path}: cannot be written: no space is left there; make some, and go on") from error
        raise
