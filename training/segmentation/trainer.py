"""The training of one round: frames and labels in, a network's weights out.

A training that is killed and resumed ends with bitwise the weights of one that was not (on a CPU with the same number
of threads): its batches depend on the update alone, and a checkpoint holds all else that an update depends on.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from serving.errors import InputError
from training.datasets.base import Labels
from training.segmentation import distributed
from training.segmentation.batches import Batch, Load, chosen_frames, prepared
from training.segmentation.checkpoints import load_checkpoint, save_checkpoint
from training.segmentation.losses import balanced_weights, pixel_weights, segmentation_loss
from training.segmentation.networks import DeepLab
from training.settings.learning import TrainerSettings

MOMENTUM = 0.9
"""Of stochastic gradient descent (DeepLab-v2)."""
_RECALIBRATION_BATCHES = 16
"""Batches over which `recalibrated` batch normalisation is measured."""


def train(
    network: DeepLab,
    load: Load,
    frame_ids: Sequence[str],
    settings: TrainerSettings,
    *,
    labels: Callable[[str], Labels],
    seed: int,
    round_number: int,
    checkpoint: Path,
    resume: bool = False,
) -> NDArray[np.float32]:
    """Train a network in place, on the device that it is on.

    Under torchrun each process has its share of every batch and all end with the same weights, those of one process
    with the whole batch up to rounding (but for dropout, of which each has its own); the first one writes the
    checkpoint.

    Parameters
    ----------
    network
        With its initial weights; ends in evaluation mode with the trained ones, or their moving average.
    load
        Reads a frame and its labels by identifier. Called from several threads.
    frame_ids
        The training frames, at least one.
    settings
        Of the round.
    labels
        Reads a frame's labels alone, by which classes are balanced.
    seed, round_number
        Both >= 0; with the update's number they decide all that is random.
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
        If there are no frames, the processes do not divide the batch, a loss is not finite (names the update and its
        frames), or the checkpoint is broken or of another training.
    """
    if not frame_ids:
        raise InputError("there are no frames to train on")
    distributed.check_shares(settings.batch)
    plan = _plan(settings, seed, round_number, frame_ids)
    losses = np.zeros(0, np.float32)
    share = (distributed.number(), distributed.processes())

    def batches(updates: range, share: tuple[int, int]) -> Iterable[Batch]:
        return prepared(load, frame_ids, settings, seed=seed, round_number=round_number, updates=updates, share=share)

    def frames_of(update: int) -> str:
        chosen = chosen_frames(frame_ids, settings.batch, seed=seed, round_number=round_number, update=update)
        return ", ".join(chosen)

    going_on = resume and checkpoint.exists()
    if settings.batch_norm == "recalibrated" and not going_on:
        recalibrate(network, (batch.images for batch in batches(range(_RECALIBRATION_BATCHES), (0, 1))))
    training = _Training(network, settings)
    if going_on:
        losses = load_checkpoint(checkpoint, network, training.optimizer, training.averaged, training.scaler, plan)
    if settings.class_balance:
        counted = (labels(frame_id) for frame_id in tqdm(frame_ids, desc="class frequencies", delay=2, disable=None))
        weights = balanced_weights(counted, network.classes, settings.class_balance)
        training.class_weights = torch.from_numpy(weights).to(training.device)
    network.train()
    remaining = range(len(losses), settings.updates)
    description = f"round {round_number}: training"
    first = share[0] == 0
    with tqdm(
        total=settings.updates,
        initial=len(losses),
        desc=description,
        unit="update",
        disable=None if first else True,
    ) as progress:
        for update, batch in zip(remaining, batches(remaining, share), strict=True):
            torch.manual_seed(_number(seed, round_number, update, share[0]))  # of dropout
            rate = poly_rate(settings, update)
            loss = training.step(batch, rate)
            if not np.isfinite(loss):
                raise InputError(
                    f"the loss of update {update} is {loss}, on frames {frames_of(update)}; "
                    f"a lower training.learning_rate than {settings.learning_rate} may help"
                )
            losses = np.append(losses, np.float32(loss))
            if first and (len(losses) % settings.checkpoint_every == 0 or len(losses) == settings.updates):
                if not all(parameter.isfinite().all() for parameter in network.parameters()):
                    raise InputError(
                        f"the weights are not finite after update {update}, on frames {frames_of(update)}; "
                        f"a lower training.learning_rate than {settings.learning_rate} may help"
                    )
                save_checkpoint(
                    checkpoint, network, training.optimizer, training.averaged, training.scaler, losses, plan
                )
            speed = settings.batch * (progress.format_dict["rate"] or 0.0)
            progress.set_postfix_str(f"loss={loss:.3f}, learning rate={rate:.2g}, {speed:.1f} frames/s", refresh=False)
            progress.update()
    if training.averaged is not None:
        network.load_state_dict(training.averaged.module.state_dict())
    network.eval()
    return losses


class _Training:
    """A network in training: its optimiser, its moving average, and what an update does."""

    def __init__(self, network: DeepLab, settings: TrainerSettings) -> None:
        self.network, self.settings = network, settings
        self.device = next(network.parameters()).device
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(network, settings)
        self.averaged = None
        if settings.average:
            self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        self.precision = _precision(settings, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self.class_weights: Tensor | None = None
        self._shared: DistributedDataParallel | None = None
        if distributed.processes() > 1:
            # Frozen statistics are the same everywhere; there is nothing to send but gradients.
            self._shared = DistributedDataParallel(network, broadcast_buffers=False)
        self._forward: Callable[[Tensor], Tensor] = self._shared or network
        if settings.compile:
            self._forward = torch.compile(self._forward)

    def step(self, batch: Batch, rate: float) -> float:
        """Take one step of the optimiser; return the loss of the whole batch, of which `batch` is a share."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        images, labels = batch.images.to(self.device), batch.labels.to(self.device)
        if self.settings.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        confidence = batch.confidence.to(self.device) if self.settings.confidence_weights else None
        weights = pixel_weights(labels, confidence, self.class_weights)
        targets = labels if batch.distributions is None else batch.distributions.to(self.device)
        total = distributed.total(weights.sum())
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        parts = [part.split(-(-len(labels) // self.settings.passes)) for part in (images, targets, weights)]
        last = len(parts[0]) - 1
        for number, (image, target, weight) in enumerate(zip(*parts, strict=True)):
            with self._unsent(number < last):
                with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                    logits = self._forward(image)
                part = segmentation_loss(logits, target, self.network.output_stride, weight, total)
                # DistributedDataParallel takes the mean over the processes of what is a sum.
                self.scaler.scale(part * distributed.processes()).backward()
            loss += part.detach()
        loss = distributed.total(loss)
        if torch.isfinite(loss):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.averaged is not None:
                self.averaged.update_parameters(self.network)
        return float(loss)

    def _unsent(self, more: bool) -> AbstractContextManager[None]:
        # Gradients are sent to the other processes once, with the last part.
        return self._shared.no_sync() if self._shared is not None and more else nullcontext()


def make_optimizer(network: DeepLab, settings: TrainerSettings) -> torch.optim.Optimizer:
    """Return the optimiser over the network's parameter groups, each with its rate `factor`."""
    groups = [
        {
            "params": group.parameters,
            "weight_decay": settings.weight_decay if group.decayed else 0.0,
            "factor": group.rate_factor,
        }
        for group in network.parameter_groups()
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def poly_rate(settings: TrainerSettings, update: int) -> float:
    """Return the head's learning rate at an update, counted from 0: base x (1 - update / updates) ^ power."""
    return settings.learning_rate * (1 - update / settings.updates) ** settings.power


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


def _precision(settings: TrainerSettings, device: torch.device) -> torch.dtype | None:
    """Return the precision of the passes, None for that of the weights."""
    if settings.precision == "auto":
        capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if capable else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.precision]


def _number(*parts: int) -> int:
    """Return one seed that stands for several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _plan(settings: TrainerSettings, seed: int, round_number: int, frame_ids: Sequence[str]) -> str:
    # What the batches and the schedule follow from; `checkpoint_every` changes neither.
    described = settings.model_dump(mode="json", exclude={"checkpoint_every"})
    frames = hashlib.sha256("\n".join(frame_ids).encode()).hexdigest()
    return json.dumps({"settings": described, "seed": seed, "round": round_number, "frames": frames})
