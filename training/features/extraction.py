"""The features of many frames, one file each, by this process or several others, with one thread each."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import cv2
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from serving.errors import InputError
from training.datasets import evenly_spaced, open_dataset
from training.datasets.base import Dataset, Frame
from training.features.cam import ClassActivation, load_classifier
from training.features.embedding import EmbeddedRegions, EmbeddingBasis, LayerPasses, embedded_regions
from training.features.regions import RegionFeatures, region_features
from training.features.saliency.views import open_saliency
from training.features.superpixels import superpixels
from training.settings import Settings

MOST_ELONGATED = 8
"""A frame's longer side over its shorter one, at most: frames are resized to a fixed height, and a strip would fill the
memory."""
BASIS = "basis.safetensors"
"""The embedding's linear map, beside the frames' .npz files (`propagation` only)."""


def extract_features(settings: Settings, frame_ids: Sequence[str], folder: Path) -> None:
    """Write `<folder>/<frame id>.npz` for every training frame that has none yet.

    It holds what the labelling method takes: `RegionFeatures`, or `EmbeddedRegions` in a basis that is fitted first, on
    frames evenly spaced over `frame_ids`. A file appears whole or not at all, so that what an interrupted run has
    written is kept.

    Raises
    ------
    InputError
        If a frame, the network's weights or the saliency forest cannot be read.
    """
    missing = [frame_id for frame_id in frame_ids if not (folder / f"{frame_id}.npz").exists()]
    if not missing:
        return
    fits = settings.pseudo_labels.method == "propagation" and not (folder / BASIS).exists()
    workers = min(settings.workers or os.cpu_count() or 1, len(missing))
    if workers == 1:
        with one_thread():
            worker = _Worker(settings, folder)
            if fits:
                worker.fit_basis(frame_ids)
            for frame_id in tqdm(missing, desc="features", unit="frame", disable=None):
                worker.write(frame_id)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker, (settings, folder)) as pool:
        try:
            if fits:
                fitted = pool.submit(_fit_basis, list(frame_ids))
                for _ in range(workers - 1):
                    pool.submit(use_one_thread)  # the other workers start meanwhile
                fitted.result()
            written = [pool.submit(write_features, frame_id) for frame_id in missing]
            made = as_completed(written)
            for future in tqdm(made, total=len(missing), desc="features", unit="frame", disable=None):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def describe_frames(settings: Settings, basis: Path) -> Callable[[Frame], RegionFeatures | EmbeddedRegions]:
    """Return the function that describes a frame as the labelling method takes it, its networks loaded.

    Parameters
    ----------
    settings
        Superpixels, networks, method.
    basis
        The fitted embedding (`propagation` only).

    The function raises `InputError` for a frame that is too elongated (`MOST_ELONGATED`).
    """
    network = load_classifier(settings.cam)
    if settings.pseudo_labels.method == "propagation":
        passes, fitted = LayerPasses(network, settings.embedding), EmbeddingBasis.load(basis)
        return lambda frame: embedded_regions(_checked(frame), passes, fitted, settings.superpixels)
    activation, maps = ClassActivation(network), open_saliency(settings.saliency)
    return lambda frame: region_features(_checked(frame), activation, settings.superpixels, settings.cam, maps)


def _checked(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise InputError(
            f"the image is {height} x {width} (height x width); its sides may differ by a factor of "
            f"{MOST_ELONGATED} at most"
        )
    return frame


def use_one_thread() -> None:
    """Keep this process to one thread, whatever the libraries would take: processes share the cores, not threads.

    On a GPU, cuDNN is kept to algorithms that give the same bits each time.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    cv2.setNumThreads(1)
    threadpool_limits(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Do so while the block runs."""
    torch_threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    cv2_threads, others = cv2.getNumThreads(), threadpool_limits(None)
    use_one_thread()
    try:
        yield
    finally:
        others.restore_original_limits()
        torch.set_num_threads(torch_threads)
        torch.backends.cudnn.deterministic = deterministic
        cv2.setNumThreads(cv2_threads)


class _Worker:
    """What writes features; it opens what it needs where it is asked for, so that errors are those of a task."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder

    @cached_property
    def dataset(self) -> Dataset:
        return open_dataset(self.settings.dataset, self.settings.dataset.train)

    @cached_property
    def describe(self) -> Callable[[Frame], RegionFeatures | EmbeddedRegions]:
        return describe_frames(self.settings, self.folder / BASIS)

    def fit_basis(self, frame_ids: Sequence[str]) -> None:
        passes = LayerPasses(load_classifier(self.settings.cam), self.settings.embedding)
        samples = []
        chosen = evenly_spaced(frame_ids, self.settings.embedding.basis_frames)
        for frame_id in tqdm(chosen, desc="embedding", unit="frame", disable=None):
            frame = _checked(self.dataset.frame(frame_id))
            labels = superpixels(frame, self.settings.superpixels)
            samples.append(passes.describe(frame, labels, int(labels.max()) + 1))
        EmbeddingBasis.fit(samples, self.settings.embedding).save(self.folder / BASIS)

    def write(self, frame_id: str) -> None:
        describe, frame = self.describe, self.dataset.frame(frame_id)
        try:
            described = describe(frame)
        except InputError as error:
            raise InputError(f"frame {frame_id}: {error}") from error
        described.save(self.folder / f"{frame_id}.npz")


_worker: _Worker


def start_worker(settings: Settings, folder: Path) -> None:
    """Make this process a worker, of one thread, which ends with its parent."""
    global _worker
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    use_one_thread()
    _worker = _Worker(settings, folder)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when its parent ends: a killed parent cannot tell its workers to."""
    parent.join()
    os._exit(1)


def load_networks() -> None:
    """Load a worker's networks now, not at its first frame."""
    _ = _worker.describe


def write_features(frame_id: str) -> None:
    """Write a frame's features to the folder that `start_worker` was given."""
    _worker.write(frame_id)


def _fit_basis(frame_ids: Sequence[str]) -> None:
    _worker.fit_basis(frame_ids)
