"""What every segmentation network keeps: the contract of its forward pass, and how its parameters learn.

A network maps normalised frames to logits on a coarse grid of cells, one every `output_stride` pixels. `resize_logits`
leads from there to pixels. `parameter_groups` says which parameters learn how fast; the trainer's optimiser reads it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterGroup:
    """Parameters that learn alike."""

    parameters: tuple[nn.Parameter, ...]
    """At least one."""
    rate_factor: float
    """Their learning rate over the trainer's; 0 keeps them as they are."""
    decayed: bool
    """Whether the trainer's weight decay applies."""


class DeepLab(nn.Module, ABC):
    """A backbone that keeps a fine grid, and the head on top of it.

    Batch normalisation always works with its stored statistics, in training too: batches of a few crops measure them
    badly. Its scale and shift do learn, where `parameter_groups` lets them. `trainer.recalibrate` measures the
    statistics anew where the given ones do not fit.

    Parameters
    ----------
    backbone
        Maps float [N, 3, H, W] to float [N, channels, ceil(H / output_stride), ceil(W / output_stride)], cell (i, j)
        centred on pixel (i, j) x output_stride.
    head
        Maps the backbone's output to logits, float [N, classes, h, w], on the same grid.
    classes
        Logits per cell.
    output_stride
        Pixels per cell.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, classes: int, output_stride: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.classes = classes
        self.output_stride = output_stride
        self.coarsest_stride = output_stride
        """Pixels per cell of the coarsest grid inside: what is shifted by it has its logits shifted."""

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised frames, float [N, 3, H, W], to logits, float [N, classes, h, w], one per cell."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    @abstractmethod
    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return how the parameters learn, each of them in one group."""

    def train(self, mode: bool = True) -> "DeepLab":
        """Set the mode of all modules but batch normalisation, which stays in evaluation mode."""
        super().train(mode)
        for module in self.batch_norms():
            module.eval()
        return self

    def batch_norms(self) -> list[nn.BatchNorm2d]:
        """Return the batch normalisations, in the order of `modules`."""
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]


def rate_groups(parameters: Iterable[nn.Parameter], *, weights: float, others: float) -> list[ParameterGroup]:
    """Divide parameters into convolutions' weights, which decay, and biases, scales and shifts, which do not.

    Parameters
    ----------
    parameters
        Of some layers.
    weights, others
        The rate factors of the two.
    """
    every = list(parameters)
    matrices = tuple(parameter for parameter in every if parameter.ndim > 1)
    vectors = tuple(parameter for parameter in every if parameter.ndim == 1)
    groups = [
        ParameterGroup(parameters=matrices, rate_factor=weights, decayed=True),
        ParameterGroup(parameters=vectors, rate_factor=others, decayed=False),
    ]
    return [group for group in groups if group.parameters]


def check_output_stride(output_stride: int) -> None:
    """Refuse an output stride that is neither 8 nor 16.

    Raises
    ------
    ValueError
        If it is another.
    """
    if output_stride not in (8, 16):
        raise ValueError(f"output_stride must be 8 or 16, got {output_stride}")
