"""A hundred thousand broken messages and images: each should get a status, and the server should not notice.

A call that has no status after half a minute, or that ends because its connection was cut, is unanswered.
"""

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from onepixel.v1 import segmentation_pb2 as pb
from tqdm import tqdm

from serving.benchmarks.bench import Bench, Findings, growth
from serving.benchmarks.mutation import SIZE, Corpus
from serving.benchmarks.senders import OPTIONS
from serving.benchmarks.tiny_model import tiny_model
from serving.benchmarks.workload import MODEL_INFER, SEGMENT, STREAM_SEGMENT

MESSAGES = 100_000
PARTS = 20
"""Between which the server is looked at."""
THREADS = 4
TURN = 10
"""Of so many calls one is a stream, and three are the Open Inference Protocol's."""
PATIENCE = 30.0
"""Seconds until a call counts as unanswered."""
UNANSWERED = "UNANSWERED"


def run_fuzz(bench: Bench) -> Findings:
    """Send broken messages.

    Returns
    -------
    `fuzz_crashes`, how often the server ended, `fuzz_unanswered`, calls without a status of the server's, and
    `fuzz_memory_ratio`, its memory at the end over that after warm-up.
    """
    model = bench.folder / "small.onnx"
    model.write_bytes(tiny_model(*SIZE))
    statuses: Counter[str] = Counter()
    memory: list[int] = []
    crashes, parts = 0, iter(range(PARTS))
    share = bench.count(MESSAGES, least=20 * PARTS) // PARTS
    with tqdm(total=PARTS, desc="fuzz", disable=None) as progress:
        while (seed := next(parts, None)) is not None:
            with bench.server(model) as server:
                for number in itertools.chain((seed,), parts):
                    statuses += bench.generator.call(send_broken, server.address, number, share)
                    progress.update()
                    if not server.is_running():
                        crashes += 1
                        break
                    memory.append(server.resident_bytes())
    figures = {
        "fuzz_crashes": crashes,
        "fuzz_unanswered": statuses[UNANSWERED],
        "fuzz_memory_ratio": float("inf") if crashes else growth(memory),
    }
    return Findings(figures, {"fuzz": {"statuses": statuses, "memory_bytes": memory}})


def send_broken(address: str, seed: int, messages: int) -> Counter[str]:
    """Send broken messages from several threads.

    Returns
    -------
    Calls by the status that they ended with; of streams also frames, by outcome.
    """
    seeds = range(THREADS * seed, THREADS * (seed + 1))
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(lambda seed: _send(address, seed, messages // THREADS), seeds), Counter())


def _send(address: str, seed: int, messages: int) -> Counter[str]:
    corpus, statuses = Corpus(seed), Counter[str]()
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        segment, infer = channel.unary_unary(SEGMENT), channel.unary_unary(MODEL_INFER)
        stream = channel.stream_stream(STREAM_SEGMENT)
        for number in range(messages):
            began = time.monotonic()
            try:
                if (place := number % TURN) > 3:
                    segment(corpus.request(), timeout=PATIENCE)
                elif place:
                    infer(corpus.infer_request(), timeout=PATIENCE)
                else:
                    for reply in stream(iter(corpus.stream()), timeout=PATIENCE):
                        statuses[f"frame {pb.StreamSegmentResponse.FromString(reply).WhichOneof('outcome')}"] += 1
                statuses["OK"] += 1
            except grpc.RpcError as error:
                cut = error.code() is grpc.StatusCode.UNAVAILABLE
                late = time.monotonic() - began >= PATIENCE
                statuses[UNANSWERED if cut or late else error.code().name] += 1
                if cut and "failed to connect" in (error.details() or ""):
                    break  # nobody is there any more
    return statuses
