"""The training of one round: frames and labels in, a network's weights out.

A training that is killed and resumed ends with bitwise the weights of one that was not (on a CPU with the same number
of threads): its batches depend on the update alone, and a checkpoint holds all else that an update depends on.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from serving.errors import InputError
from training.segmentation.batches import Batch, Load, prepared
from training.segmentation.checkpoints import load_checkpoint, save_checkpoint
from training.segmentation.networks import DeepLab, resize_logits
from training.settings import TrainerSettings
from training.taxonomy import IGNORED

_RECALIBRATION_BATCHES = 16
"""Batches over which `recalibrated` batch normalisation is measured."""


def train(
    network: DeepLab,
    load: Load,
    frame_ids: Sequence[str],
    settings: TrainerSettings,
    *,
    seed: int,
    round_number: int,
    checkpoint: Path,
    resume: bool = False,
) -> NDArray[np.float32]:
    """Train a network in place, on the device that it is on.

    On a GPU that computes in bfloat16 the network runs in mixed precision; its weights and the loss stay float32.

    Parameters
    ----------
    network
        With its initial weights; ends in evaluation mode with the trained ones.
    load
        Reads a frame, uint8 [H, W, 3], and its labels, uint8 [H, W], by identifier. Called from another thread.
    frame_ids
        The training frames, at least one.
    settings
        Of the round.
    seed, round_number
        Both >= 0; with the update's number they decide the batches.
    checkpoint
        The file that holds the training's state, written every `settings.checkpoint_every` updates and at the end.
    resume
        Go on from `checkpoint` where it exists; else start anew and replace it.

    Returns
    -------
    NDArray[np.float32]
        The loss of each update, float32 [settings.updates], those before a resume included.

    Raises
    ------
    InputError
        If there are no frames, a loss is not finite (names the update and its frames), or the checkpoint is broken or
        of another training.
    """
    if not frame_ids:
        raise InputError("there are no frames to train on")
    device = next(network.parameters()).device
    optimizer = make_optimizer(network, settings)
    plan = _plan(settings, seed, round_number, frame_ids)
    losses = np.zeros(0, np.float32)

    def batches(updates: range) -> Iterable[Batch]:
        return prepared(load, frame_ids, settings, seed=seed, round_number=round_number, updates=updates)

    if resume and checkpoint.exists():
        losses = load_checkpoint(checkpoint, network, optimizer, plan)
    elif settings.batch_norm == "recalibrated":
        recalibrate(network, (batch.images for batch in batches(range(_RECALIBRATION_BATCHES))))
    network.train()
    remaining = range(len(losses), settings.updates)
    description = f"round {round_number}: training"
    with tqdm(total=settings.updates, initial=len(losses), desc=description, unit="update", disable=None) as progress:
        for update, batch in zip(remaining, batches(remaining), strict=True):
            rate = poly_rate(settings, update)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            with _mixed_precision(device):
                logits = network(batch.images.to(device))
            loss = segmentation_loss(logits, batch.labels.to(device), network.output_stride)
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss of update {update} is {loss.item()}, on frames {', '.join(batch.frame_ids)}; "
                    f"a lower training.learning_rate than {settings.learning_rate} may help"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses = np.append(losses, np.float32(loss.item()))
            if len(losses) % settings.checkpoint_every == 0 or len(losses) == settings.updates:
                save_checkpoint(checkpoint, network, optimizer, losses, plan)
            progress.set_postfix(loss=f"{losses[-1]:.3f}", rate=f"{rate:.2g}", refresh=False)
            progress.update()
    network.eval()
    return losses


def make_optimizer(network: DeepLab, settings: TrainerSettings) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019) over the network's parameter groups, each with its rate `factor`.

    DeepLab-v2 has stochastic gradient descent with momentum, base rate 0.001 and ten times that in the head. On
    CamVid's truth (MobileNetV2, 150 updates, one seed) that ends at 39.2 % mIoU and diverges at twice the rate; AdamW
    at 0.001 ends at 42.4 %, at 0.002 at 36.5 %.
    """
    groups = [
        {
            "params": group.parameters,
            "weight_decay": settings.weight_decay if group.decayed else 0.0,
            "factor": group.rate_factor,
        }
        for group in network.parameter_groups()
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def poly_rate(settings: TrainerSettings, update: int) -> float:
    """Return the head's learning rate at an update, counted from 0: base x (1 - update / updates) ^ power."""
    return settings.learning_rate * (1 - update / settings.updates) ** settings.power


def segmentation_loss(logits: Tensor, labels: Tensor, output_stride: int) -> Tensor:
    """Return the mean cross entropy of the pixels that are not ignored; 0 where all are.

    Parameters
    ----------
    logits
        Float [N, C, h, w], one per cell.
    labels
        int64 [N, H, W], 255 ignored.
    output_stride
        Pixels per cell.

    Returns
    -------
    Tensor
        float32, a scalar.
    """
    full = resize_logits(logits, labels.shape[1], labels.shape[2], output_stride)
    total = functional.cross_entropy(full, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


@torch.no_grad()
def recalibrate(network: DeepLab, batches: Iterable[Tensor]) -> None:
    """Measure the batch normalisations' statistics anew, in place, as the mean over some batches.

    Parameters
    ----------
    network
        Its statistics are replaced, whatever they were.
    batches
        Normalised crops, float32 [N, 3, H, W] each.
    """
    device = next(network.parameters()).device
    norms = network.batch_norms()
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for images in batches:
        network(images.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _mixed_precision(device: torch.device) -> torch.autocast:
    # bfloat16 and not float16, which needs its loss scaled, and with that one more state to resume.
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=capable)


def _plan(settings: TrainerSettings, seed: int, round_number: int, frame_ids: Sequence[str]) -> str:
    # What the batches and the schedule follow from; `rounds` and `checkpoint_every` change neither.
    described = settings.model_dump(mode="json", exclude={"rounds", "checkpoint_every"})
    frames = hashlib.sha256("\n".join(frame_ids).encode()).hexdigest()
    return json.dumps({"settings": described, "seed": seed, "round": round_number, "frames": frames})
