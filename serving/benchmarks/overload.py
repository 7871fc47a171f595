"""More than the server can do: what it still answers, how late, what a refusal costs, and whether memory stays flat.

Besides: no inference is spent on frames that nobody waits for, and a camera that is ten times too fast gets masks of
what it sees now.
"""

import threading
from typing import Any

import numpy as np
from tqdm import tqdm

from serving.benchmarks.bench import Bench, Findings
from serving.benchmarks.load import StreamLoad, UnaryLoad, quantile
from serving.benchmarks.process import ServerProcess

FACTOR = 10
"""Offered over served."""
CONNECTIONS = 8
"""Over which the load comes."""
FLAT = 1.05
"""Memory at the end over memory after warm-up that counts as flat."""
INTERVAL = 0.25
"""Seconds between the looks at memory and queue."""


def run_overload(bench: Bench, seconds: float = 60.0) -> Findings:
    """Overload the server.

    Parameters
    ----------
    bench
        Where.
    seconds
        How long, before scaling.

    Returns
    -------
    `overload_goodput` over the peak, `overload_p99_ratio` over the queue's bound, `rejection_cost` over a frame's,
    `memory_flat`, `wasted_inference`, a share, and `frame_age_p99` in service times.
    """
    case = bench.network
    figures: dict[str, Any] = {}
    details: dict[str, Any] = {}
    with (
        bench.server(case.model) as server,
        tqdm(total=4, desc="overload", disable=None) as progress,
    ):
        peak = _peak(bench, server, bench.seconds(8.0))
        progress.update()
        for part in (_flood, _waste, _age):
            found = part(bench, server, peak, bench.seconds(seconds if part is _flood else min(seconds, 20.0)))
            figures |= found.figures
            details |= found.details
            progress.update()
    return Findings(figures, {"overload": details | {"peak": peak}})


def _peak(bench: Bench, server: ServerProcess, seconds: float) -> dict[str, float]:
    """Measure what the server can do, and what a frame costs it."""
    load = UnaryLoad(address=server.address, requests=bench.network.requests, clients=CONNECTIONS, seconds=seconds)
    bench.send(UnaryLoad(address=server.address, requests=bench.network.requests, clients=2, seconds=seconds / 4))
    before = server.cpu_seconds()
    run = bench.send(load)
    return {"rate": run.rate, "cpu_per_frame": (server.cpu_seconds() - before) / run.masks}


def _flood(bench: Bench, server: ServerProcess, peak: dict[str, float], seconds: float) -> Findings:
    load = UnaryLoad(
        address=server.address,
        requests=bench.network.requests,
        clients=CONNECTIONS,
        rate=FACTOR * peak["rate"],
        seconds=seconds,
        timeouts=(30.0,),
    )
    before = server.cpu_seconds()
    with _Watch(server) as watch:
        run = bench.send(load)
    cpu = server.cpu_seconds() - before
    refused = run.outcomes["RESOURCE_EXHAUSTED"]
    wait = float(np.median(watch.bounds)) / peak["rate"]
    latencies = run.latencies()
    figures = {
        "overload_goodput": run.rate / peak["rate"],
        "overload_p99_ratio": quantile(latencies, 0.99) / wait,
        "rejection_cost": max(0.0, cpu / peak["cpu_per_frame"] - run.masks) / max(1, refused),
        "memory_flat": watch.growth <= FLAT,
    }
    details = {
        "outcomes": run.outcomes,
        "offered_rate": run.sent / seconds,
        "admitted_p50_s": quantile(latencies, 0.5),
        "admitted_p99_s": quantile(latencies, 0.99),
        "refused_p50_ms": 1e3 * quantile(run.latencies("RESOURCE_EXHAUSTED"), 0.5),
        "queue_bound": float(np.median(watch.bounds)),
        "memory_growth": watch.growth,
        "generator_lateness_s": run.lateness,
    }
    return Findings(figures, {"flood": details})


def _waste(bench: Bench, server: ServerProcess, peak: dict[str, float], seconds: float) -> Findings:
    """Send three times too much, two thirds of which nobody waits for: it is cancelled, or its deadline passes."""
    wait = server.metric("onepixel_queue_bound") / peak["rate"]
    impatient = tuple(wait * share for share in (0.3, 0.5, 0.7))
    load = UnaryLoad(
        address=server.address,
        requests=bench.network.requests,
        clients=CONNECTIONS,
        rate=3 * peak["rate"],
        seconds=seconds,
        timeouts=(30.0, 30.0, impatient[0], 30.0, 30.0, impatient[1], 30.0, 30.0, impatient[2]),
        cancel_after=(None, impatient[0], None, None, impatient[1], None, None, impatient[2], None),
    )
    before = server.metric("onepixel_inferences_total")
    run = bench.send(load)
    inferences = server.metric("onepixel_inferences_total") - before
    wasted = 1 - run.masks / inferences
    return Findings({"wasted_inference": wasted}, {"waste": {"outcomes": run.outcomes, "inferences": inferences}})


def _age(bench: Bench, server: ServerProcess, peak: dict[str, float], seconds: float) -> Findings:
    """Stream ten times too much, of which the newest counts."""
    load = StreamLoad(
        address=server.address,
        images=bench.network.images,
        rate=FACTOR * peak["rate"],
        arrivals="fixed",
        seconds=seconds,
        overflow_policy="DROP_OLDEST",
        max_in_flight=2,
    )
    run = bench.send(load)
    ages = run.latencies() * peak["rate"]
    details = {"outcomes": run.outcomes, "age_p50": quantile(ages, 0.5), "rate_over_peak": run.rate / peak["rate"]}
    return Findings({"frame_age_p99": quantile(ages, 0.99)}, {"age": details})


class _Watch:
    """Looks at a server's memory and its queue's bound while the block runs."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.memory: list[int] = []
        self.bounds: list[float] = []

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """The most memory of the last quarter over the most of the first."""
        quarter = max(1, len(self.memory) // 4)
        return max(self.memory[-quarter:]) / max(self.memory[:quarter])

    def _look(self) -> None:
        while True:
            self.memory.append(self._server.resident_bytes())
            self.bounds.append(self._server.metric("onepixel_queue_bound"))
            if self._ended.wait(INTERVAL):
                return
