"""Replacing what runs, under load: the model a hundred times, and the whole server twenty times."""

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from serving.benchmarks.bench import Bench, Case, Findings, growth
from serving.benchmarks.load import MASK, Load, Run, StreamLoad, UnaryLoad, quantile
from serving.benchmarks.process import ServerProcess
from serving.benchmarks.swapping import POLL_SECONDS, Expectation, VersionFolder, with_other_masks
from serving.client import Client

SWAPS = 100
STOPS = 20
PERIOD = 1.0
"""Seconds from one swap to the next, at least: the queue should settle in between."""
SHARES = (0.35, 0.15)
"""Load of single calls and of a stream, over the peak."""
DRAINING = ("drain", "failed to connect")
"""What is said to calls that were not accepted: by the server, and by gRPC where nobody listens any more."""


def run_swap(bench: Bench) -> Findings:
    """Swap models, then stop servers.

    Returns
    -------
    `swap_failed` and `swap_mixed`, frames, `swap_p99_ratio`, `memory_ratio`, and `sigterm_lost`, frames.
    """
    found = _swaps(bench, bench.network)
    found.add(_stops(bench))
    return found


def two_models(bench: Bench, case: Case) -> tuple[Path, Path]:
    """Return a model and a copy of it that gives other masks."""
    other = bench.folder / f"other-{case.model.name}"
    with_other_masks(case.model, other)
    return case.model, other


def _swaps(bench: Bench, case: Case) -> Findings:
    models = two_models(bench, case)
    expectation = Expectation(models, case.images)
    folder = VersionFolder(bench.folder / "swap", models)
    swaps = bench.count(SWAPS, least=5)
    with (
        bench.server(folder.path, repository__poll_seconds=POLL_SECONDS) as server,
        Client(server.address) as client,
    ):
        peak = bench.send(
            UnaryLoad(address=server.address, requests=case.requests, clients=4, seconds=bench.seconds(8.0))
        )
        before = bench.generator.start(*_loads(case, server, peak.rate, bench.seconds(30.0))).result()
        under_way = bench.generator.start(*_loads(case, server, peak.rate, 1e6))
        memory, took = [], []
        for _ in tqdm(range(swaps), desc="swaps", disable=None):
            began = time.monotonic()
            folder.swap(client)
            took.append(time.monotonic() - began)
            time.sleep(max(0.0, bench.seconds(PERIOD) - took[-1]))
            memory.append(server.resident_bytes())
        bench.generator.stop()
        during = under_way.result()
    for run in (*before, *during):
        bench.account(run)
    tails = [quantile(runs[0].latencies(), 0.99) for runs in (before, during)]
    figures = {
        "swap_failed": sum(run.sent - run.masks for run in during),
        "swap_mixed": sum(expectation.mixed(run) for run in (*before, *during)),
        "swap_p99_ratio": tails[1] / tails[0],
        "memory_ratio": growth(memory),
    }
    details = {
        "swaps": swaps,
        "seconds_of_a_swap": statistics.median(took),
        "frames_before": sum(run.sent for run in before),
        "frames_during": sum(run.sent for run in during),
        "outcomes": dict(during[0].outcomes + during[1].outcomes),
        "p99_before_ms": 1e3 * tails[0],
        "p99_during_ms": 1e3 * tails[1],
        "memory_bytes": memory,
    }
    return Findings(figures, {"swap": details})


def _loads(case: Case, server: ServerProcess, peak: float, seconds: float) -> tuple[Load, Load]:
    single, stream = (share * peak for share in SHARES)
    common: dict[str, Any] = {"address": server.address, "seconds": seconds, "check": True}
    return (
        UnaryLoad(requests=case.requests, rate=single, clients=4, **common),
        StreamLoad(images=case.images, rate=stream, arrivals="fixed", **common),
    )


def _stops(bench: Bench) -> Findings:
    """Send SIGTERM to servers under load; what they took they should answer."""
    case = bench.network
    lost: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    seconds = []
    for _ in tqdm(range(bench.count(STOPS, least=2)), desc="stops", disable=None):
        with bench.server(case.model, queue__max_wait=30) as server:  # what is taken is not refused later
            common: dict[str, Any] = {"address": server.address, "until_refused": True}
            under_way = bench.generator.start(
                UnaryLoad(requests=case.requests, clients=6, **common), StreamLoad(images=case.images, **common)
            )
            time.sleep(1.0)
            began = time.monotonic()
            server.ask_to_end()
            exits[str(server.wait())] += 1
            seconds.append(time.monotonic() - began)
            bench.generator.stop()
            for run in under_way.result():
                bench.account(run)
                outcomes += run.outcomes
                lost += lost_frames(run)
    details = {"outcomes": outcomes, "lost": lost, "exit_statuses": exits, "seconds": statistics.median(seconds)}
    return Findings({"sigterm_lost": lost.total()}, {"sigterm": details})


def lost_frames(run: Run) -> Counter[str]:
    """Count the frames that a server may have accepted and did not answer, by what the client saw.

    Of a stream's, those after its last outcome were not read by the server; one before it was.
    """
    answered: dict[int, int] = {}
    for answer in run.answers:
        if answer.outcome == MASK:
            answered[answer.client] = max(answered.get(answer.client, -1), answer.sequence)
    return Counter(
        f"{answer.outcome}: {answer.detail}"
        for answer in run.answers
        if answer.outcome != MASK
        and (
            answer.sequence < answered.get(answer.client, -1)
            or not any(text in answer.detail for text in DRAINING)
            or not answer.outcome.endswith("UNAVAILABLE")
        )
    )
