"""Several processes that train one network, as torchrun starts them: each has a share of every batch.

Without torchrun there is one process, and nothing here talks to anybody.
"""

import os
from datetime import timedelta

import torch
from torch import Tensor, distributed

from serving.errors import InputError

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: the first one makes features and labels meanwhile."""


def processes() -> int:
    """Return how many processes train together (torchrun's WORLD_SIZE)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Return this process's number, from 0 (torchrun's RANK)."""
    return int(os.environ.get("RANK", "0"))


def join() -> None:
    """Meet the other processes, over NCCL where each has a GPU of its own, else over gloo."""
    if processes() == 1 or distributed.is_initialized():
        return
    devices = torch.cuda.device_count()
    if devices:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % devices)
    own = devices >= int(os.environ["LOCAL_WORLD_SIZE"])
    distributed.init_process_group("nccl" if own else "gloo", timeout=PATIENCE)


def check_shares(batch: int) -> None:
    """Refuse a batch that the processes cannot share equally.

    Raises
    ------
    InputError
        If it is not a multiple of their number.
    """
    if batch % processes():
        raise InputError(f"training.batch is {batch}: {processes()} processes must have equal shares of it")


def wait() -> None:
    """Go on when all processes have come here."""
    if processes() > 1:
        distributed.barrier()


def total(value: Tensor) -> Tensor:
    """Return the sum of a value over all processes."""
    if processes() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value
