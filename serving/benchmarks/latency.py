"""What the server adds to the bare loop: time, throughput and processor time, and how latency grows with load.

Every ratio is of figures of the same round, in which the bare loop and the server take turns on the same core.
"""

import statistics
from typing import Any

from tqdm import tqdm

from serving.benchmarks.bare_loop import BareLoop
from serving.benchmarks.bench import Bench, Case, Findings, median_of
from serving.benchmarks.load import MASK, Load, Run, StreamLoad, UnaryLoad, all_arrival_times, quantile
from serving.benchmarks.process import ServerProcess

ROUNDS = {"network": 5, "tiny": 7}
CLIENTS = 4
"""That saturate the server."""
LOADED = 0.7
"""Share of the saturated throughput at which tails are compared."""
CURVE = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2)
"""Loads of the plot, over the saturated throughput."""


def run_latency(bench: Bench) -> Findings:
    """Measure what the server adds.

    Returns
    -------
    `unary_p50_ratio`, `throughput_ratio`, `stream_over_unary` and `p99_over_p50_ratio` on the network,
    `cpu_ratio_unary` and `cpu_ratio_stream` on the model that costs almost nothing, and `masks_identical`.
    """
    network = _rounds(bench, bench.network, ROUNDS["network"], seconds=4.0, loaded_seconds=8.0)
    tiny = _rounds(bench, bench.tiny, ROUNDS["tiny"], seconds=1.5)
    tails = [
        {
            "server": row["loaded_p99_ms"] / row["loaded_p50_ms"],
            "bare": row["bare_loaded_p99_ms"] / row["bare_loaded_p50_ms"],
        }
        for row in network
    ]
    figures = {
        "unary_p50_ratio": median_of(network, "unary_p50_ms", "bare_p50_ms"),
        "throughput_ratio": median_of(network, "saturated_rate", "bare_rate"),
        "stream_over_unary": median_of(network, "stream_rate", "saturated_rate"),
        "p99_over_p50_ratio": median_of(tails, "server", "bare"),
        # One client's frames cost more than those of several at once: the bar holds for both.
        "cpu_ratio_unary": max(median_of(tiny, kind, "bare_cpu_ms") for kind in ("unary_cpu_ms", "saturated_cpu_ms")),
        "cpu_ratio_stream": median_of(tiny, "stream_cpu_ms", "bare_cpu_ms"),
        "masks_identical": _masks_identical(bench),
    }
    details = {"network": _medians(network), "tiny": _medians(tiny), "curve": _curve(bench), "rounds": network}
    return Findings(figures, {"latency": details | {"tiny_rounds": tiny}})


def _rounds(
    bench: Bench, case: Case, rounds: int, *, seconds: float, loaded_seconds: float | None = None
) -> list[dict[str, float]]:
    rows = []
    with bench.bare(case) as bare, bench.server(case.model) as server:
        for number in tqdm(range(rounds + 1), desc=f"rounds on {case.model.stem}", disable=None):
            row = _round(bench, case, bare, server, bench.seconds(seconds))
            if loaded_seconds is not None:
                row |= _loaded(bench, case, bare, server, row["saturated_rate"], bench.seconds(loaded_seconds), number)
            if number:  # the first warms up
                rows.append(row)
    return rows


def _round(bench: Bench, case: Case, bare: BareLoop, server: ServerProcess, seconds: float) -> dict[str, float]:
    alone = bare.closed(seconds)
    row = {
        "bare_p50_ms": 1e3 * quantile(alone.latencies, 0.5),
        "bare_p99_ms": 1e3 * quantile(alone.latencies, 0.99),
        "bare_cpu_ms": 1e3 * alone.cpu_per_frame,
        "bare_rate": alone.rate,
    }
    common: dict[str, Any] = {"address": server.address, "seconds": seconds}
    loads: dict[str, Load] = {
        "unary": UnaryLoad(requests=case.requests, **common),
        "saturated": UnaryLoad(requests=case.requests, clients=CLIENTS, **common),
        "stream": StreamLoad(images=case.images, max_in_flight=CLIENTS, **common),
    }
    for name, load in loads.items():
        before = server.cpu_seconds()
        run = bench.send(load)
        row |= {
            f"{name}_p50_ms": 1e3 * quantile(run.latencies(), 0.5),
            f"{name}_p99_ms": 1e3 * quantile(run.latencies(), 0.99),
            f"{name}_cpu_ms": 1e3 * (server.cpu_seconds() - before) / run.masks,
            f"{name}_rate": run.rate,
        }
    return row


def _loaded(
    bench: Bench, case: Case, bare: BareLoop, server: ServerProcess, rate: float, seconds: float, seed: int
) -> dict[str, float]:
    """Send the same frames at the same times to the server and to the bare loop."""
    load = _open_load(case, server, LOADED * rate, seconds, seed)
    run, alone = bench.send(load), bare.open(all_arrival_times(load))
    return {
        "loaded_p50_ms": 1e3 * quantile(run.latencies(), 0.5),
        "loaded_p99_ms": 1e3 * quantile(run.latencies(), 0.99),
        "bare_loaded_p50_ms": 1e3 * quantile(alone.latencies, 0.5),
        "bare_loaded_p99_ms": 1e3 * quantile(alone.latencies, 0.99),
    }


def _open_load(case: Case, server: ServerProcess, rate: float, seconds: float, seed: int = 0) -> UnaryLoad:
    return UnaryLoad(
        address=server.address, requests=case.requests, clients=CLIENTS, rate=rate, seconds=seconds, seed=seed
    )


def _curve(bench: Bench) -> list[dict[str, float]]:
    """Measure latency at rising loads; past 1 what the queue refuses is a share, and the bare loop has no answer."""
    case, points = bench.network, []
    seconds = bench.seconds(5.0)
    with bench.bare(case) as bare, bench.server(case.model) as server:
        peak = bench.send(UnaryLoad(address=server.address, requests=case.requests, clients=CLIENTS, seconds=seconds))
        for share in tqdm(CURVE, desc="latency over load", disable=None):
            load = _open_load(case, server, share * peak.rate, seconds)
            run = bench.send(load)
            point = {"load": share, "rate": share * peak.rate, "refused": 1 - run.masks / max(1, run.sent)}
            point |= {f"{name}_ms": 1e3 * quantile(run.latencies(), q) for name, q in (("p50", 0.5), ("p99", 0.99))}
            if share < 1:
                alone = bare.open(all_arrival_times(load)).latencies
                point |= {"bare_p50_ms": 1e3 * quantile(alone, 0.5), "bare_p99_ms": 1e3 * quantile(alone, 0.99)}
            points.append(point)
    return points


def _masks_identical(bench: Bench) -> bool:
    """Compare the masks of single calls and streams, alone and in batches, with the engine's own."""
    case, identical = bench.network, True
    with bench.bare(case) as bare:
        expected = bare.checksums()
    frames = bench.count(48, least=24)
    batches: tuple[dict[str, float], ...] = ({}, {"queue__max_batch": 4, "queue__batch_delay": 0.05})
    for settings in batches:
        with bench.server(case.model, queue__max_wait=60, **settings) as server:
            common: dict[str, Any] = {"address": server.address, "frames": frames, "check": True}
            runs = [
                bench.send(UnaryLoad(requests=case.requests, **common)),
                bench.send(UnaryLoad(requests=case.requests, clients=8, **common)),
                bench.send(StreamLoad(images=case.images, clients=3, **common)),
            ]
        identical &= all(_all_as(expected, run) for run in runs)
    return identical


def _all_as(expected: list[int], run: Run) -> bool:
    return run.masks == run.sent and all(
        answer.checksum == expected[answer.image(len(expected))] for answer in run.answers if answer.outcome == MASK
    )


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}
