"""More than the server can do: what it still answers, how late, what a refusal costs, and whether memory stays flat.

Besides: no inference is spent on frames that nobody waits for, and a camera that is ten times too fast gets masks of
what it sees now.
"""

import threading
from dataclasses import asdict, dataclass, replace

import numpy as np
from tqdm import tqdm

from serving.benchmarks.bench import Bench, Findings
from serving.benchmarks.load import Run, StreamLoad, UnaryLoad, quantile
from serving.benchmarks.process import ServerProcess

FACTOR = 10
"""Offered over served."""
CONNECTIONS = 8
"""Over which the load comes."""
BURST = 12
"""Frames of a burst; a multiple of 3."""
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
    with (
        bench.server(case.model) as server,
        tqdm(total=4, desc="overload", disable=None) as progress,
    ):
        peaks = [_peak(bench, server, bench.seconds(8.0))]
        progress.update()
        flood = _flood(bench, server, bench.seconds(seconds), FACTOR * peaks[0].rate)
        peaks.append(_peak(bench, server, bench.seconds(8.0)))
        peak = max(peaks, key=lambda peak: peak.rate)
        progress.update()
        found = _judge(flood, peak)
        for part in (_waste, _age):
            found.add(part(bench, server, peak, bench.seconds(min(seconds, 20.0))))
            progress.update()
    details = found.details | {"peaks": [asdict(peak) for peak in peaks]}
    return Findings(found.figures, {"overload": details})


@dataclass(frozen=True)
class Peak:
    """What the server can do."""

    rate: float
    """Frames per second."""
    cpu_per_frame: float
    """Processor seconds."""


@dataclass(frozen=True)
class Flood:
    """What the server did with ten times more."""

    run: Run
    seconds: float
    cpu_seconds: float
    bound: float
    """Frames that the queue would hold, the median."""
    memory_growth: float


def _peak(bench: Bench, server: ServerProcess, seconds: float) -> Peak:
    load = UnaryLoad(address=server.address, requests=bench.network.requests, clients=CONNECTIONS, seconds=seconds)
    bench.send(replace(load, clients=2, seconds=seconds / 4))
    before = server.cpu_seconds()
    run = bench.send(load)
    return Peak(run.rate, (server.cpu_seconds() - before) / run.masks)


def _flood(bench: Bench, server: ServerProcess, seconds: float, rate: float) -> Flood:
    load = UnaryLoad(
        address=server.address,
        requests=bench.network.requests,
        clients=CONNECTIONS,
        rate=rate,
        seconds=seconds,
        timeouts=(30.0,),
    )
    before = server.cpu_seconds()
    with _Watch(server) as watch:
        run = bench.send(load)
    return Flood(run, seconds, server.cpu_seconds() - before, float(np.median(watch.bounds)), watch.growth)


def _judge(flood: Flood, peak: Peak) -> Findings:
    run, latencies = flood.run, flood.run.latencies()
    refused = run.outcomes["RESOURCE_EXHAUSTED"]
    figures = {
        "overload_goodput": run.rate / peak.rate,
        "overload_p99_ratio": quantile(latencies, 0.99) * peak.rate / flood.bound,
        "rejection_cost": max(0.0, flood.cpu_seconds / peak.cpu_per_frame - run.masks) / max(1, refused),
        "memory_flat": flood.memory_growth <= FLAT,
    }
    details = {
        "outcomes": run.outcomes,
        "offered_rate": run.sent / flood.seconds,
        "admitted_p50_s": quantile(latencies, 0.5),
        "admitted_p99_s": quantile(latencies, 0.99),
        "refused_p50_ms": 1e3 * quantile(run.latencies("RESOURCE_EXHAUSTED"), 0.5),
        "queue_bound": flood.bound,
        "memory_growth": flood.memory_growth,
        "generator_lateness_s": run.lateness,
    }
    return Findings(figures, {"flood": details})


def _waste(bench: Bench, server: ServerProcess, peak: Peak, seconds: float) -> Findings:
    """Send bursts, two thirds of which nobody waits for: they are cancelled, or their deadline passes.

    That happens while the first frame of the burst, which somebody waits for, is in the engine: so each of them can be
    spared its inference. One that has begun could not be taken back.
    """
    soon = 0.5 / peak.rate
    load = UnaryLoad(
        address=server.address,
        requests=bench.network.requests,
        rate=1.5 * peak.rate,  # a third of it is half of what the server can do: a burst is over before the next
        arrivals="fixed",
        burst=BURST,
        seconds=seconds,
        timeouts=(30.0, 30.0, soon),
        cancel_after=(None, soon, None),
    )
    before = server.metric("onepixel_inferences_total")
    run = bench.send(load)
    inferences = server.metric("onepixel_inferences_total") - before
    wasted = 1 - run.masks / inferences
    return Findings({"wasted_inference": wasted}, {"waste": {"outcomes": run.outcomes, "inferences": inferences}})


def _age(bench: Bench, server: ServerProcess, peak: Peak, seconds: float) -> Findings:
    """Stream ten times too much, of which the newest counts."""
    load = StreamLoad(
        address=server.address,
        images=bench.network.images,
        rate=FACTOR * peak.rate,
        arrivals="fixed",
        seconds=seconds,
        overflow_policy="DROP_OLDEST",
        max_in_flight=2,
    )
    run = bench.send(load)
    ages = run.latencies() * peak.rate
    details = {"outcomes": run.outcomes, "age_p50": quantile(ages, 0.5), "rate_over_peak": run.rate / peak.rate}
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
