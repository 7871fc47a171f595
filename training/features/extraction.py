"""The features of many frames, one file each, by several processes with one thread each."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    network = load_classifier(settings.cam)  # wrong weights are told here, not by a worker that dies of them
    if settings.pseudo_labels.method == "propagation":
        if not (folder / BASIS).exists():
            LayerPasses(network, settings.embedding)  # a wrong layer, likewise
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_process) as pool:
                pool.submit(_fit_basis, settings, frame_ids, folder / BASIS).result()
    else:
        ClassActivation(network)
        open_saliency(settings.saliency)
    workers = min(settings.workers or os.cpu_count() or 1, len(missing))
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker, (settings, folder)) as pool,
        tqdm(total=len(missing), desc="features", unit="frame", disable=None) as progress,
    ):
        try:
            for future in as_completed([pool.submit(write_features, frame_id) for frame_id in missing]):
                future.result()
                progress.update()
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
            f"the image is {height} x {width} (height x width); its sides may differ by a factor of {MOST_ELONGATED}"
        )
    return frame


def _fit_basis(settings: Settings, frame_ids: Sequence[str], path: Path) -> None:
    passes = LayerPasses(load_classifier(settings.cam), settings.embedding)
    dataset = open_dataset(settings.dataset, settings.dataset.train)
    samples = []
    chosen = evenly_spaced(frame_ids, settings.embedding.basis_frames)
    for frame_id in tqdm(chosen, desc="embedding", unit="frame", disable=None):
        frame = _checked(dataset.frame(frame_id))
        labels = superpixels(frame, settings.superpixels)
        samples.append(passes.describe(frame, labels, int(labels.max()) + 1))
    EmbeddingBasis.fit(samples, settings.embedding).save(path)


def use_one_thread() -> None:
    """Keep this process to one thread, whatever the libraries would take: processes share the cores, not threads.

    On a GPU, cuDNN is kept to algorithms that give the same bits each time.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    cv2.setNumThreads(1)
    threadpool_limits(1)


class _Worker:
    """What a worker process keeps between frames."""

    folder: Path
    dataset: Dataset
    describe: Callable[[Frame], RegionFeatures | EmbeddedRegions]


def start_worker(settings: Settings, folder: Path) -> None:
    """Make this process ready for `write_features`: one thread, the data set open, the networks loaded."""
    _start_process()
    _Worker.folder = folder
    _Worker.dataset = open_dataset(settings.dataset, settings.dataset.train)
    _Worker.describe = staticmethod(describe_frames(settings, folder / BASIS))


def _start_process() -> None:
    """Keep this process to one thread, and end it with its parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    use_one_thread()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when its parent ends: a killed parent cannot tell its workers to."""
    parent.join()
    os._exit(1)


def write_features(frame_id: str) -> None:
    """Write a frame's features to the folder that `start_worker` was given."""
    try:
        described = _Worker.describe(_Worker.dataset.frame(frame_id))
    except InputError as error:
        raise InputError(f"frame {frame_id}: {error}") from error
    described.save(_Worker.folder / f"{frame_id}.npz")
