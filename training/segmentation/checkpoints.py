"""Weights and training states on disk, in safetensors.

A file is written under a temporary name and renamed when it is whole, so that whoever reads the name after a kill
finds the old file or the new one, never half of one.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from serving.errors import InputError
from serving.files import whole_file

_NETWORK, _AVERAGED, _OPTIMIZER = "network.", "averaged.", "optimizer."
_TRAINING = "training"
"""The one key of the metadata: several would be written in any order, and a file's bytes are compared."""


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's weights to a safetensors file."""
    _write(path, network.state_dict(), {})


def load_network(network: nn.Module, path: Path) -> None:
    """Read weights that `save_network` wrote into a network of the same shape.

    Raises
    ------
    InputError
        If the file is missing, broken, or holds another network; names the file and what differs.
    """
    tensors, _ = _read(path)
    _load_weights(network, tensors, path)


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: Optimizer,
    averaged: AveragedModel | None,
    scaler: GradScaler,
    losses: NDArray[np.float32],
    plan: str,
) -> None:
    """Write the state of a training: weights, their average, the optimiser's buffers, the loss of each update so far.

    Parameters
    ----------
    path
        The file; an older checkpoint there is replaced.
    network, optimizer
        The optimiser holds the network's parameters.
    averaged
        The moving average of the network's weights, where there is one.
    scaler
        Of the loss; without fp16 it has no state.
    losses
        float32 [updates done]; its length is the number of the next update.
    plan
        Text that describes the training; `load_checkpoint` refuses a checkpoint of another one.
    """
    tensors = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if value is not None:
                tensors[f"{_OPTIMIZER}{key}.{name}"] = value
    if averaged is not None:
        tensors |= {_AVERAGED + name: tensor for name, tensor in averaged.state_dict().items()}
    tensors["losses"] = torch.from_numpy(losses)
    _write(path, tensors, {_TRAINING: json.dumps({"plan": plan, "scaler": scaler.state_dict()})})


def load_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: Optimizer,
    averaged: AveragedModel | None,
    scaler: GradScaler,
    plan: str,
) -> NDArray[np.float32]:
    """Put a network, its optimiser, its average and its scaler into the state of a checkpoint.

    Returns
    -------
    NDArray[np.float32]
        The losses so far, float32 [updates done].

    Raises
    ------
    InputError
        If the file is broken, holds another network, or is of another plan; names the file.
    """
    tensors, metadata = _read(path)
    training = json.loads(metadata.get(_TRAINING, "{}"))
    if training.get("plan") != plan:
        raise InputError(
            f"{path}: this checkpoint is of another training; delete it or train without resuming.\n"
            f"its training: {training.get('plan')}\nthis training: {plan}"
        )
    _load_weights(network, _part(tensors, _NETWORK), path)
    if averaged is not None:
        _load_weights(averaged, _part(tensors, _AVERAGED), path)
    if training["scaler"]:
        scaler.load_state_dict(training["scaler"])
    state = _part(tensors, _OPTIMIZER)
    for parameter_name, parameter in network.named_parameters():
        for name, value in state.items():
            key, _, owner = name.partition(".")
            if owner == parameter_name:
                # Counters live on the host, as the optimiser itself keeps them; buffers live with their parameter.
                optimizer.state[parameter][key] = value.to(parameter.device) if value.ndim else value
    return tensors["losses"].numpy()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: holds the weights of another network: {error}") from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with whole_file(path) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
