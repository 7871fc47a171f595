"""Our server beside another, in turns on the same core: the same model, the same frames, the same load."""

import statistics
import time
import zlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from serving.addresses import free_port
from serving.benchmarks.bench import Bench, Case, Findings
from serving.benchmarks.engine import BareEngine
from serving.benchmarks.load import MASK, UnaryLoad, quantile
from serving.benchmarks.peers.known import ChosenPeer, copy_programs
from serving.benchmarks.process import PinnedProcess, stopped_after
from serving.benchmarks.senders import connect
from serving.errors import InputError

ROUNDS = 5
CLIENTS = 4
STARTING = 120.0
"""Seconds that a peer may take until it answers."""


def run_peer(bench: Bench, chosen: ChosenPeer) -> Findings:
    """Measure a peer beside our server, on the model that costs almost nothing and on the network.

    Returns
    -------
    `peers`: by its name, then by "tiny" and "network", the figures of "onepixel" and of the peer: `p50_ms` and `p99_ms`
    of one client, `rate`, `saturated_p99_ms` and `cpu_ms` of four, `memory_bytes`; and `ahead`, whether ours has more
    throughput and a lower p99 in both.

    Raises
    ------
    InputError
        If the peer does not start, or answers with other masks.
    """
    compared: dict[str, Any] = {
        "tiny": _compare(bench, bench.tiny, chosen, bench.seconds(1.5)),
        "network": _compare(bench, bench.network, chosen, bench.seconds(4.0)),
    }
    ahead = all(
        pair["onepixel"]["rate"] > pair[chosen.name]["rate"]
        and pair["onepixel"]["saturated_p99_ms"] < pair[chosen.name]["saturated_p99_ms"]
        for pair in compared.values()
    )
    return Findings({"peers": {chosen.name: compared | {"ahead": ahead}}})


def _compare(bench: Bench, case: Case, chosen: ChosenPeer, seconds: float) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {"onepixel": [], chosen.name: []}
    peer = chosen.peer
    process, port = _start(bench, case, chosen)
    with stopped_after(process), bench.server(case.model) as server, bench.bare(case) as bare:
        theirs: dict[str, Any] = {
            "address": f"127.0.0.1:{port}",
            "requests": tuple(map(peer.request, case.images)),
            "method": peer.method,
            "http": peer.http,
            "content_type": peer.content_type,
        }
        ours: dict[str, Any] = {"address": server.address, "requests": case.requests}
        _wait_until_right(case, UnaryLoad(**theirs), process, chosen)
        for common, warm_seconds in ((ours, 2.0), (theirs, peer.warm_seconds)):
            bench.send(UnaryLoad(clients=CLIENTS, seconds=bench.seconds(warm_seconds), **common))
        for _ in tqdm(range(ROUNDS), desc=f"{chosen.name} on {case.model.stem}", disable=None):
            alone = bare.closed(seconds / 2)
            for name, common, measured in (("onepixel", ours, server), (chosen.name, theirs, process)):
                one = bench.send(UnaryLoad(seconds=seconds, **common))
                before = measured.cpu_seconds()
                several = bench.send(UnaryLoad(clients=CLIENTS, seconds=seconds, **common))
                if not one.masks or not several.masks:
                    raise InputError(f"{name}: gives no masks: {several.answers[:1]}")
                cpu = (measured.cpu_seconds() - before) / several.masks
                rows[name].append(
                    {
                        "p50_ms": 1e3 * quantile(one.latencies(), 0.5),
                        "p99_ms": 1e3 * quantile(one.latencies(), 0.99),
                        "rate": several.rate,
                        "saturated_p99_ms": 1e3 * quantile(several.latencies(), 0.99),
                        "cpu_ms": 1e3 * cpu,
                        "cpu_ratio": cpu / alone.cpu_per_frame,
                        "memory_bytes": measured.proportional_bytes(),
                    }
                )
    return {
        name: {figure: statistics.median(row[figure] for row in measured) for figure in measured[0]}
        for name, measured in rows.items()
    }


def _start(bench: Bench, case: Case, chosen: ChosenPeer) -> tuple[PinnedProcess, int]:
    programs = bench.folder / "peers"
    copy_programs(programs)
    port = free_port()
    path = [str(programs)]
    if chosen.peer.own:
        import onepixel.v1

        path.append(str(Path(onepixel.v1.__file__).parents[2]))
    process = PinnedProcess(
        chosen.peer.command(chosen.python, case.model.resolve(), port, free_port()),
        bench.cores.server,
        bench.folder / f"{chosen.name}.log",
        {"PYTHONPATH": ":".join(path), "OMP_NUM_THREADS": "1"},
        programs,
    )
    return process, port


def _wait_until_right(case: Case, load: UnaryLoad, process: PinnedProcess, chosen: ChosenPeer) -> None:
    expected = BareEngine(case.model).segment(case.images[0])
    deadline = time.monotonic() + STARTING
    outcome, reply = "", b""
    while outcome != MASK:
        if not process.is_running() or time.monotonic() > deadline:
            raise InputError(f"--peer {chosen.name}: does not answer ({outcome}): {process.log_tail()}")
        time.sleep(0.5)
        connection, call = connect(load)
        outcome, detail, reply = call(load.requests[0], 30.0)
        outcome = outcome if outcome == MASK else f"{outcome} {detail}"
        connection.close()
    if expected not in reply:
        raise InputError(f"--peer {chosen.name}: its mask is not the engine's ({zlib.crc32(reply):08x})")
