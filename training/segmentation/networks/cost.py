"""What the networks cost: parameters, and multiply-accumulates of one frame, without computing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.segmentation.networks.registry import NETWORKS, build_network
from training.settings.learning import NetworkSettings
from training.settings.method import CamSettings


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one network at one input size."""

    parameters: int
    """Trained or not; batch normalisation's statistics are none."""
    multiply_accumulates: int
    """Of the convolutions, for one frame; pooling, normalisation and the resizing of logits are left out."""


def network_cost(settings: NetworkSettings, cam: CamSettings, classes: int) -> Cost:
    """Count what the network that the settings name costs at `settings.input_size`; reads no weights.

    Parameters
    ----------
    settings, cam, classes
        As of `build_network`.
    """
    with torch.device("meta"), torch.inference_mode():
        network = build_network(settings, cam, classes, seed=0, pretrained=False).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, *settings.input_size))
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_accumulates=counter.get_total_flops() // 2,
    )


def all_costs(settings: NetworkSettings, cam: CamSettings, classes: int) -> list[dict[str, Any]]:
    """Count what every registered network costs at `settings.input_size`; one row each, of what JSON can hold.

    The network that the settings name has their stride and dilations, each other one those that it was published with.
    """
    rows = []
    for name in NETWORKS:
        one = settings if name == settings.name else NetworkSettings(name=name, input_size=settings.input_size)
        options = {"output_stride": one.output_stride, "aspp_rates": one.aspp_rates}
        rows.append({"name": name, **asdict(network_cost(one, cam, classes)), **options})
    return rows


def as_lines(rows: Sequence[Mapping[str, Any]], classes: int, input_size: tuple[int, int]) -> list[str]:
    """Lay out the rows of `all_costs` for a person."""
    height, width = input_size
    lines = [f"{f'{classes} classes, {height} x {width}':<26} {'parameters':>12} {'MACs':>9} {'stride':>7}  rates"]
    for row in rows:
        rates = ", ".join(str(rate) for rate in row["aspp_rates"])
        parameters, macs = f"{row['parameters'] / 1e6:.2f} M", f"{row['multiply_accumulates'] / 1e9:.1f} G"
        lines.append(f"{row['name']:<26} {parameters:>12} {macs:>9} {row['output_stride']:>7}  {rates}")
    return lines
