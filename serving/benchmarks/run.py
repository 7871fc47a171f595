"""The suites in order, each with servers of its own, and all with one generator."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.benchmarks.bench import Bench, Findings
from serving.benchmarks.fuzz import run_fuzz
from serving.benchmarks.generator import Generator
from serving.benchmarks.latency import run_latency
from serving.benchmarks.overload import run_overload
from serving.benchmarks.peers.compare import run_peer
from serving.benchmarks.peers.known import ChosenPeer
from serving.benchmarks.process import Cores, busy_shares, on_core
from serving.benchmarks.soak import run_soak
from serving.benchmarks.swap import run_swap
from serving.errors import InputError

SHIPPED_MODEL = Path("model_store", "camvid", "1", "model.onnx")
SHORT_OVERLOAD = 20.0
"""Seconds of the overload in the default suite."""
QUIET = 0.1
"""Share of a core that other work may take without a warning."""

SUITES: dict[str, Callable[[Bench], Findings]] = {
    "latency": run_latency,
    "overload": run_overload,
    "swap": run_swap,
    "soak": run_soak,
    "fuzz": run_fuzz,
}


def run_suites(
    suite: str | None, model: Path | None, peers: Sequence[str], scale: float, warn: Callable[[str], None]
) -> Findings:
    """Measure.

    Parameters
    ----------
    suite
        One of `SUITES`, or "all"; None means latency and a short overload, or none of them where there are peers.
    model
        The ONNX file; None means the shipped one.
    peers
        Other servers, each NAME or NAME=PYTHON.
    scale
        By which durations and counts are multiplied.
    warn
        Is told what makes the figures doubtful.

    Raises
    ------
    InputError
        If the model, a peer or its python is not there, or the system is not Linux.
    """
    chosen = [ChosenPeer.parse(text) for text in peers]
    cores = Cores.choose()
    path = _find_model(model)
    busy = busy_shares(cores)
    if max(busy.values()) > QUIET:
        told = ", ".join(f"{share:.0%} of the {name}'s" for name, share in busy.items())
        warn(f"the cores have other work ({told}): the figures are noisy")
    began = time.monotonic()
    found = Findings()
    with (
        tempfile.TemporaryDirectory(prefix="onepixel-bench-") as folder,
        on_core(cores.generator),  # this process waits, and should not do so where something is measured
        Generator(cores.generator) as generator,
    ):
        bench = Bench(path, Path(folder), generator, cores, scale)
        if suite is not None:
            for name in SUITES if suite == "all" else (suite,):
                found.add(SUITES[name](bench))
        elif not chosen:
            found.add(run_latency(bench))
            found.add(run_overload(bench, SHORT_OVERLOAD))
        for peer in chosen:
            found.add(run_peer(bench, peer))
    found.figures["unaccounted_frames"] = bench.unaccounted
    # What a run was too short for is no number, and JSON has none for it.
    found.figures = {name: value for name, value in found.figures.items() if name == "peers" or math.isfinite(value)}
    found.details["run"] = {
        "suite": suite,
        "model": str(path),
        "scale": scale,
        "cores": {"server": cores.server, "generator": cores.generator},
        "cores_busy_before": busy,
        "generator_lateness_s": bench.lateness,
        "seconds": time.monotonic() - began,
    }
    return found


def _find_model(model: Path | None) -> Path:
    candidates = [model] if model else [Path(__file__).resolve().parents[2] / SHIPPED_MODEL, SHIPPED_MODEL]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(f"--model {candidates[-1]}: is no file; give an ONNX file of `onepixel export`")
