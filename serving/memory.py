"""What glibc's allocator is told: frames come and go, so keep their memory; a model that goes does so for good.

Where the C library is another, nothing is done.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**26
"""Bytes of freed memory at the end of a heap that are kept."""
MAPPED = 2**25
"""Bytes from which on an allocation has pages of its own, which are new, and so cleared, each time; glibc's most."""


def keep_freed_memory() -> None:
    """Keep the memory of frames for the next ones: else each frame of some 100 KB costs a hundred page faults.

    On a trivial graph the server so took 0.92 to 0.96 of the processor time (throw-away code, glibc's own variables set
    and not, in turns); to be called before threads start.
    """
    option = _glibc("mallopt")
    if option is not None:
        option(_M_MMAP_THRESHOLD, MAPPED)
        option(_M_TRIM_THRESHOLD, KEPT)


def give_memory_back() -> None:
    """Return freed memory to the system."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> "ctypes._CFuncPtr | None":  # type: ignore[name-defined]
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
