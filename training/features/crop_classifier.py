"""The embedded classifier: what describes regions where neither ImageNet weights nor a network connection are at hand.

A MobileNetV2 of half width is trained on procedural object crops (`training.datasets.crops`) by image labels alone, no
crop says where its object is, and shipped beside this file. `cam.weights: embedded` is this network. It is made by

    make classifier

which runs `python -m training.features.crop_classifier --out training/features/crop_classifier.safetensors`. The file's
metadata holds the classes, the network, the accuracy on held-out crops and that command.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import mobilenet_v2
from tqdm import tqdm

from training.classifiers import DEVIATION, MEAN
from training.datasets.crops import CROP_CLASSES, object_crop

WIDTH = 0.5
"""Width multiplier: 0.75 million parameters, 1.5 MB in half precision."""
BATCH = 64
WARM_UP = 60
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
CALIBRATION_BATCHES = 24
PAINTERS = 1
"""Processes that paint crops while the network trains."""
HELD_OUT_SEED = 1 << 20
"""Crops of this seed are never trained on."""
HELD_OUT_CROPS = 1060
"""Twenty of each class."""
MAXIMUM_BYTES = 4 << 20


@dataclass(frozen=True)
class Stage:
    """A part of the training, with its own schedule."""

    sides: tuple[int, ...]
    """Sides of the crops, 32 k + 1, taken in turns by the batches."""
    updates: int
    """Optimiser steps."""
    peak_rate: float
    """Highest learning rate, after the warm-up."""


STAGES = (Stage((65, 97), 1000, 4e-3), Stage((97, 129, 161), 270, 2e-3))
"""Small crops first, since they cost least; then as large as things are in the slices of a frame."""

_SHIPPED = "crop_classifier.safetensors"


def embedded_classifier() -> nn.Module:
    """Return the shipped classifier: torchvision's MobileNetV2, float32, in evaluation mode.

    It takes float32 [N, 3, H, W], sides 32 k + 1, normalised as for any torchvision network, and answers
    [N, len(CROP_CLASSES)] in the order of `crops.CROP_CLASSES`.
    """
    state = load((files("training.features") / _SHIPPED).read_bytes())
    network = untrained_classifier()
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return network.eval()


def normalise(crops: NDArray[np.uint8]) -> Tensor:
    """Turn crops, uint8 [N, H, W, 3], RGB, into the network's input, float32 [N, 3, H, W]."""
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255  # channels stay last in memory: faster
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


class Crops(Dataset[tuple[NDArray[np.uint8], int]]):
    """Crops by number, all classes in turn; a function of the seed, the number and the sides alone."""

    def __init__(self, seed: int, count: int, sides: tuple[int, ...]) -> None:
        self.seed, self.count, self.sides = seed, count, sides

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
        """Return crop and class id."""
        rng = np.random.default_rng([self.seed, number])
        class_id = number % len(CROP_CLASSES)
        return object_crop(rng, CROP_CLASSES[class_id], self.sides[number // BATCH % len(self.sides)]), class_id


def train(stages: Sequence[Stage] = STAGES, seed: int = 0) -> nn.Module:
    """Train the classifier stage after stage and return it, calibrated, in evaluation mode.

    The statistics of batch normalisation are measured anew at the end, with the final weights.
    """
    torch.manual_seed(seed)
    network = untrained_classifier().to(memory_format=torch.channels_last)
    for number, stage in enumerate(stages):
        train_stage(network, stage, seed + number)
    calibrate(network, stages[-1].sides, seed + len(stages))
    return network.eval()


def train_stage(network: nn.Module, stage: Stage, seed: int) -> None:
    """Train the network for one stage, on crops of that seed, in place."""
    network.train()
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=stage.peak_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, stage.peak_rate, total_steps=stage.updates, pct_start=min(WARM_UP / stage.updates, 0.3)
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    batches = _batches(seed, stage.updates * BATCH, stage.sides, painters=PAINTERS)
    progress = tqdm(batches, total=stage.updates, unit="batch", disable=None)
    for crops, classes in progress:
        loss = criterion(network(normalise(crops)), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)


@torch.no_grad()
def calibrate(network: nn.Module, sides: tuple[int, ...], seed: int) -> None:
    """Measure the statistics of batch normalisation anew: plain averages over many batches, with the weights fixed."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    for crops, _ in _batches(seed, CALIBRATION_BATCHES * BATCH, sides):
        network(normalise(crops))


@torch.inference_mode()
def accuracy(network: nn.Module, count: int, seed: int = HELD_OUT_SEED) -> float:
    """Return the share of `count` held-out crops whose most likely class is the right one, 0 to 1."""
    right = 0
    for crops, classes in _batches(seed, count, STAGES[-1].sides):
        right += int((network(normalise(crops)).argmax(dim=1) == classes).sum())
    return right / count


def write(network: nn.Module, path: Path, held_out_accuracy: float) -> None:
    """Write the classifier in half precision, its classes and origin in the metadata."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    metadata = {
        "network": "torchvision mobilenet_v2",
        "width_mult": str(WIDTH),
        "classes": json.dumps(CROP_CLASSES),
        "held_out_accuracy": f"{held_out_accuracy:.4f}",
        "command": "python -m training.features.crop_classifier --out training/features/crop_classifier.safetensors",
    }
    save_file(state, path, metadata)
    path.chmod(0o644)


def shipped_metadata() -> dict[str, str]:
    """Return the metadata of the shipped file: network, width_mult, classes (JSON), held_out_accuracy, command."""
    with safe_open(str(files("training.features") / _SHIPPED), "pt") as opened:
        return dict(opened.metadata())


def main() -> None:
    """Train the classifier and write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    path = parser.parse_args().out
    network = train()
    reached = accuracy(network, HELD_OUT_CROPS)
    write(network, path, reached)
    print(f"{path}: {path.stat().st_size} bytes, {100 * reached:.1f} % of held-out crops right", file=sys.stderr)


def untrained_classifier() -> nn.Module:
    """Return the classifier with random weights, in training mode."""
    network: nn.Module = mobilenet_v2(width_mult=WIDTH, num_classes=len(CROP_CLASSES))
    return network


def _batches(
    seed: int, count: int, sides: tuple[int, ...], *, painters: int = 0
) -> Iterable[tuple[NDArray[np.uint8], Tensor]]:
    """Return `count` crops in batches [N, H, W, 3] and their class ids [N], painted by that many more processes.

    These are spawned, not forked: a fork inherits the locks of OpenCV's and torch's threads, and may wait for ever.
    """
    loader: Iterable[tuple[NDArray[np.uint8], Tensor]] = DataLoader(
        Crops(seed, count, sides),
        batch_size=BATCH,
        collate_fn=_collate,
        num_workers=painters,
        worker_init_fn=_one_thread,
        multiprocessing_context="spawn" if painters else None,
    )
    return loader


def _collate(samples: list[tuple[NDArray[np.uint8], int]]) -> tuple[NDArray[np.uint8], Tensor]:
    return np.stack([crop for crop, _ in samples]), torch.tensor([class_id for _, class_id in samples])


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(1)


if __name__ == "__main__":
    main()
