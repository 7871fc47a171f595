"""In a process of its own: what the allocator is told holds for the whole of it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is told, on Linux")

CODE = """
import resource
from pathlib import Path
import numpy as np
from serving.memory import give_memory_back, keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(3_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults(1)
kept = faults(20)
blocks = [bytes(50_000) for _ in range(2000)]
full = resident()
del blocks
give_memory_back()
print(kept, full - resident())
"""


def test_frames_cost_no_new_pages_and_what_goes_for_good_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, given = map(int, done.stdout.split())
    assert kept < 100  # each of the twenty has 733 pages
    assert given > 15_000  # of 24,400
