"""What was found, for people: a table with the bar of each figure, a plot, and the raw figures in a folder."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.benchmarks.bench import Findings
from serving.files import whole_file


@dataclass(frozen=True)
class Bar:
    """What a figure should be."""

    text: str
    """What it is."""
    low: float = float("-inf")
    high: float = float("inf")

    def holds(self, value: float) -> bool:
        """Tell whether a figure is within."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:g}"
        return f">= {self.low:g}" if self.high == float("inf") else f"<= {self.high:g}"


BARS = {
    "unary_p50_ratio": Bar("p50 of single calls over the bare loop's", high=1.05),
    "throughput_ratio": Bar("saturated throughput over the bare loop's", low=0.95),
    "stream_over_unary": Bar("throughput of a stream over that of single calls", low=1.0),
    "p99_over_p50_ratio": Bar("p99 / p50 at 70 % load, over the bare loop's", high=1.5),
    "cpu_ratio_unary": Bar("processor time of a single call over the bare loop's, trivial graph", high=1.35),
    "cpu_ratio_stream": Bar("the same on a stream", high=1.2),
    "overload_goodput": Bar("masks per second at 10 x overload over the peak", low=0.95),
    "overload_p99_ratio": Bar("p99 of admitted frames over queue bound x service time", high=1.2),
    "rejection_cost": Bar("processor time of a refusal over a frame's", high=0.05),
    "memory_flat": Bar("memory in overload <= 1.05 x (1 = yes)", low=1, high=1),
    "wasted_inference": Bar("inferences whose masks nobody got", high=0.01),
    "frame_age_p99": Bar("p99 age at 10 x camera rate with DROP_OLDEST, service times", high=3.0),
    "unaccounted_frames": Bar("frames without exactly one outcome", low=0, high=0),
    "swap_failed": Bar("frames that failed during the swaps", low=0, high=0),
    "swap_mixed": Bar("masks that are not of the version that they name", low=0, high=0),
    "swap_p99_ratio": Bar("p99 during the swaps over before", high=1.5),
    "memory_ratio": Bar("memory after the soak and the swaps over after warm-up", high=1.05),
    "fuzz_crashes": Bar("times that the server ended on mutated input", low=0, high=0),
    "fuzz_unanswered": Bar("mutated calls without a status", low=0, high=0),
    "fuzz_memory_ratio": Bar("memory after the mutated calls over after warm-up", high=1.05),
    "sigterm_lost": Bar("accepted frames lost on SIGTERM", low=0, high=0),
    "masks_identical": Bar("masks identical to the engine's own (1 = yes)", low=1, high=1),
}
"""By figure, in the order in which they are told."""


PEER_COLUMNS = {
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "rate": "per second, 4 clients",
    "saturated_p99_ms": "p99, ms",
    "cpu_ratio": "CPU over bare",
    "memory_bytes": "MiB",
}


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as Markdown, each with its bar; and the peers beside ours."""
    lines = []
    if known := [name for name in BARS if name in figures]:
        lines += ["| figure | measured | bar | |", "|---|---:|---:|---|"]
        lines += [_row(BARS[name], figures[name]) for name in known]
    for name, compared in figures.get("peers", {}).items():
        lines += ["", *_peer_lines(name, compared)]
    return "\n".join(lines).strip()


def _row(bar: Bar, value: float) -> str:
    return f"| {bar.text} | {value:.4g} | {bar} | {'met' if bar.holds(value) else 'MISSED'} |"


def _peer_lines(name: str, compared: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| {name} beside ours | " + " | ".join(PEER_COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(PEER_COLUMNS),
    ]
    for model in ("tiny", "network"):
        for server, measured in compared[model].items():
            cells = [f"{measured[key] / (2**20 if key == 'memory_bytes' else 1):.4g}" for key in PEER_COLUMNS]
            lines.append(f"| {model}: {server} | " + " | ".join(cells) + " |")
    return lines


def write_report(findings: Findings, folder: Path) -> list[str]:
    """Write `table.md`, `figures.json`, `details.json` and, where Matplotlib is installed, `latency.png`.

    Returns
    -------
    What could not be written, and why.
    """
    texts = {
        "table.md": table(findings.figures) + "\n",
        "figures.json": json.dumps(findings.figures, indent=1) + "\n",
        "details.json": json.dumps(findings.details, indent=1) + "\n",
    }
    for name, text in texts.items():
        with whole_file(folder / name) as path:
            path.write_text(text)
    curve = findings.details.get("latency", {}).get("curve")
    if not curve:
        return []
    if importlib.util.find_spec("matplotlib") is None:
        return ["no latency.png: Matplotlib is not installed (it comes with the extra `training`)"]
    with whole_file(folder / "latency.png") as path:
        _plot(curve, path)
    return []


def _plot(curve: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (
        ("p99_ms", "server, p99", "C0-o"),
        ("p50_ms", "server, p50", "C0--o"),
        ("bare_p99_ms", "bare loop, p99", "C7-s"),
        ("bare_p50_ms", "bare loop, p50", "C7--s"),
    ):
        points = [(point["load"], point[key]) for point in curve if key in point]
        axes.plot(*zip(*points, strict=True), style, label=label)
    axes.axvline(1, color="C3", linewidth=0.8)
    axes.set(yscale="log", xlabel="offered load over saturated throughput", ylabel="latency, ms (Poisson arrivals)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
