import json
import os
import subprocess
import sys

import numpy as np
import pytest

from training.configuration import load_settings
from training.features.extraction import BASIS, extract_features

LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
FRAMES = [f"streets_train_{number:04d}" for number in range(3)]

THREADS = """
import json
import cv2, numpy, scipy.linalg, skimage.segmentation, threadpoolctl, torch
from training.features.extraction import one_thread, use_one_thread

def threads():
    return [torch.get_num_threads(), cv2.getNumThreads(), *(p["num_threads"] for p in threadpoolctl.threadpool_info())]

before = threads()
with one_thread():
    inside = threads()
after = threads()
use_one_thread()
print(json.dumps([before, inside, after, threads()]))
"""


def test_a_worker_uses_one_thread_whatever_the_libraries_would_take():
    environment = os.environ | dict.fromkeys(LIBRARIES, "2")
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
    before, inside, after, worker = json.loads(done.stdout)
    assert max(before) > 1 and after == before
    assert set(inside) == set(worker) == {1}


@pytest.fixture(scope="module", params=["paper", "best"])
def extracted(request, tmp_path_factory):
    """The same frames by this process, whose libraries take one thread, and by two workers that would take two each."""
    folders = []
    for workers in (1, 2):
        folder = tmp_path_factory.mktemp(f"{workers}_workers")
        sizes = ["dataset.size=[64, 128]", "dataset.frames=3", "superpixels.count=60", "cam.slice_height=65"]
        settings = load_settings("streets", [f"workers={workers}", f"pseudo_labels.preset={request.param}", *sizes])
        with pytest.MonkeyPatch.context() as patch:
            for library in LIBRARIES:
                patch.setenv(library, str(workers))  # which the processes that are started see
            extract_features(settings, FRAMES, folder)
        folders.append(folder)
    return folders


def test_every_frame_has_its_file_and_nothing_else_is_left(extracted):
    for folder in extracted:
        names = {path.name for path in folder.iterdir()} - {BASIS}
        assert names == {f"{frame_id}.npz" for frame_id in FRAMES}


def test_one_and_two_workers_write_the_same_bits(extracted):
    bases = [folder / BASIS for folder in extracted if (folder / BASIS).exists()]
    assert len({path.read_bytes() for path in bases}) == bool(bases)
    for frame_id in FRAMES:
        one, two = (np.load(folder / f"{frame_id}.npz") for folder in extracted)
        assert set(one.files) == set(two.files)
        for name in one.files:
            assert one[name].tobytes() == two[name].tobytes(), name
