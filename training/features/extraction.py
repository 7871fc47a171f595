"""The features of many frames, one file each, by several processes with one thread each."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import torch
from tqdm import tqdm

from training.datasets import open_dataset
from training.datasets.base import Dataset
from training.features.cam import ClassActivation, load_classifier
from training.features.regions import region_features
from training.features.saliency.views import SaliencyMaps, open_saliency
from training.settings import Settings


def extract_features(settings: Settings, frame_ids: Sequence[str], folder: Path) -> None:
    """Write `<folder>/<frame id>.npz` for every training frame that has none yet.

    A file appears whole or not at all, so that what an interrupted run has written is kept.

    Raises
    ------
    InputError
        If a frame, the network's weights or the saliency forest cannot be read.
    """
    missing = [frame_id for frame_id in frame_ids if not (folder / f"{frame_id}.npz").exists()]
    if not missing:
        return
    ClassActivation(load_classifier(settings.cam))  # wrong weights are told here, not by a worker that dies of them
    open_saliency(settings.saliency)
    workers = min(settings.workers or os.cpu_count() or 1, len(missing))
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (settings, folder)) as pool,
        tqdm(total=len(missing), desc="features", unit="frame", disable=None) as progress,
    ):
        try:
            for future in as_completed([pool.submit(_extract, frame_id) for frame_id in missing]):
                future.result()
                progress.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Worker:
    """What a worker process keeps between frames."""

    settings: Settings
    folder: Path
    dataset: Dataset
    activation: ClassActivation
    saliency_maps: SaliencyMaps


def _start_worker(settings: Settings, folder: Path) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _Worker.settings, _Worker.folder = settings, folder
    _Worker.dataset = open_dataset(settings.dataset, settings.dataset.train)
    _Worker.activation = ClassActivation(load_classifier(settings.cam))
    _Worker.saliency_maps = open_saliency(settings.saliency)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when its parent ends: a killed parent cannot tell its workers to."""
    parent.join()
    os._exit(1)


def _extract(frame_id: str) -> None:
    frame = _Worker.dataset.frame(frame_id)
    settings = _Worker.settings
    features = region_features(frame, _Worker.activation, settings.superpixels, settings.cam, _Worker.saliency_maps)
    features.save(_Worker.folder / f"{frame_id}.npz")
