"""What a gRPC call costs beside the engine: synchronous grpcio against grpc.aio, and the server that was built.

    python -m serving.benchmarks.transport

Each serves the same work on the tiny model (parse, decode a JPEG of 1024 x 512, infer, pack the mask) in a process
of its own; the load generator has another and parses nothing. `bare` is the same work in a loop. Rounds alternate
between them, figures are medians of the rounds, and ratios are to `bare` in the same run.
"""

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import click
import grpc
import grpc.aio
import numpy as np
from onepixel.v1 import segmentation_pb2 as pb
from tqdm import tqdm

from serving import wire
from serving.benchmarks.tiny_model import tiny_model
from serving.cli_support import json_option
from serving.frames import encode_jpeg
from serving.model import Model
from serving.server import Server
from serving.settings import EngineSettings

HEIGHT, WIDTH = 512, 1024
METHOD = "/onepixel.v1.SegmentationService/Segment"
CONCURRENCY = 4
THREADS = 8
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0))
KINDS = ("bare", "sync", "aio", "server")

Work = Callable[[bytes], bytes]


def street_like_jpeg() -> bytes:
    """Return a JPEG of 1024 x 512 with smooth areas, edges and some noise, about 120 KB as a camera's are."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 255, (16, 32, 3)), np.ones((32, 32, 1)))
    return encode_jpeg(np.clip(blocks + rng.normal(0, 9, blocks.shape), 0, 255).astype(np.uint8), quality=85)


def make_work(model: Model) -> Work:
    """Return what every transport does for one request's bytes."""

    def work(data: bytes) -> bytes:
        request = pb.SegmentRequest.FromString(data)
        class_ids, _ = model.infer(wire.frame_pixels(request.frame, 2**25)[None])
        response = pb.SegmentResponse()
        mask = response.segmentation.mask
        mask.height, mask.width = class_ids.shape[1:]
        mask.data = class_ids.tobytes()
        return response.SerializeToString()

    return work


def _serve(kind: str, model_path: Path, pipe: Connection) -> None:
    """Run one contender in this process: says where it listens, then answers each message with its CPU seconds."""
    model = Model.load(model_path, settings=EngineSettings(threads=1))
    if kind == "aio":
        asyncio.run(_serve_aio(make_work(model), pipe))
    elif kind == "sync":
        work = make_work(model)
        server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
        server.add_generic_rpc_handlers([_handler(lambda request, context: work(request))])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        pipe.send(f"127.0.0.1:{port}")
        while pipe.recv():
            pipe.send(time.process_time())
    elif kind == "server":
        built = Server(model)
        built.start()
        pipe.send(built.address)
        while pipe.recv():
            pipe.send(time.process_time())


async def _serve_aio(work: Work, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(THREADS)

    async def answer(request: bytes, context: object) -> bytes:
        return await loop.run_in_executor(executor, work, request)

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers([_handler(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(f"127.0.0.1:{port}")
    waiter = ThreadPoolExecutor(1)
    while await loop.run_in_executor(waiter, pipe.recv):
        pipe.send(time.process_time())


def _handler(answer: Callable[..., object]) -> grpc.GenericRpcHandler:
    service, method = METHOD.strip("/").split("/")
    return grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(answer)})


def _bare(model_path: Path, request: bytes, pipe: Connection) -> None:
    """Do the work in a loop: each message is a number of calls, answered with CPU seconds and latencies."""
    work = make_work(Model.load(model_path, settings=EngineSettings(threads=1)))
    while calls := pipe.recv():
        cpu = time.process_time()
        latencies = []
        for _ in range(calls):
            began = time.perf_counter()
            work(request)
            latencies.append(time.perf_counter() - began)
        pipe.send((time.process_time() - cpu, latencies))


def _generate(request: bytes, pipe: Connection) -> None:
    """Be the load generator: each message is (address, calls, concurrency), answered with latencies and seconds."""
    while message := pipe.recv():
        address, calls, concurrency = message
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            call = channel.unary_unary(METHOD)
            call(request)
            latencies = []
            under_way: deque[tuple[float, grpc.Future]] = deque()
            began = time.perf_counter()
            for index in range(calls + concurrency):
                if index >= concurrency or index >= calls:
                    sent, future = under_way.popleft()
                    future.result()
                    latencies.append(time.perf_counter() - sent)
                if index < calls:
                    under_way.append((time.perf_counter(), call.future(request)))
            pipe.send((latencies[:calls], time.perf_counter() - began))


def measure(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Run the rounds.

    Parameters
    ----------
    rounds
        Rounds; each contender is measured once in each.
    calls
        Calls per measurement.

    Returns
    -------
    By contender, medians over the rounds: `p50_ms` and `p99_ms` of one client, `cpu_ms` per call of one client,
    `saturated_cpu_ms` and `per_second` of four calls at once, `cpu_ratio` and `saturated_cpu_ratio` over `bare`.
    """
    context = multiprocessing.get_context("spawn")
    request = pb.SegmentRequest(frame=wire.frame_message(street_like_jpeg())).SerializeToString()
    samples: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}

    def record(kind: str, **figures: float) -> None:
        for name, value in figures.items():
            samples[kind].setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as folder:
        model_path = Path(folder, "tiny.onnx")
        model_path.write_bytes(tiny_model(HEIGHT, WIDTH))
        pipes: dict[str, Connection] = {}
        processes = []
        for kind in (*KINDS, "generator"):
            pipes[kind], theirs = context.Pipe()
            if kind == "generator":
                process = context.Process(target=_generate, args=(request, theirs), daemon=True)
            elif kind == "bare":
                process = context.Process(target=_bare, args=(model_path, request, theirs), daemon=True)
            else:
                process = context.Process(target=_serve, args=(kind, model_path, theirs), daemon=True)
            process.start()
            processes.append(process)
        addresses = {kind: pipes[kind].recv() for kind in KINDS[1:]}

        def ask(kind: str, concurrency: int) -> tuple[float, list[float], float]:
            pipes[kind].send(True)
            cpu = pipes[kind].recv()
            pipes["generator"].send((addresses[kind], calls, concurrency))
            latencies, elapsed = pipes["generator"].recv()
            pipes[kind].send(True)
            return pipes[kind].recv() - cpu, latencies, elapsed

        for number in tqdm(range(rounds + 1), desc="rounds", disable=None):
            for kind in KINDS[number % 4 :] + KINDS[: number % 4]:
                if kind == "bare":
                    pipes[kind].send(calls)
                    cpu, latencies = pipes[kind].recv()
                    busy, elapsed = cpu, sum(latencies)
                else:
                    cpu, latencies, _ = ask(kind, 1)
                    busy, _, elapsed = ask(kind, CONCURRENCY)
                if number == 0:
                    continue  # warm-up
                record(
                    kind,
                    p50_ms=1e3 * statistics.median(latencies),
                    p99_ms=1e3 * float(np.quantile(latencies, 0.99)),
                    cpu_ms=1e3 * cpu / calls,
                    saturated_cpu_ms=1e3 * busy / calls,
                    per_second=calls / elapsed,
                )
        for pipe in pipes.values():
            pipe.send(0)
        for process in processes:
            process.join(5)
    for kind in KINDS:
        for name in ("cpu", "saturated_cpu"):
            pairs = zip(samples[kind][f"{name}_ms"], samples["bare"][f"{name}_ms"], strict=True)
            samples[kind][f"{name}_ratio"] = [ours / bare for ours, bare in pairs]
    return {kind: {name: round(statistics.median(v), 3) for name, v in samples[kind].items()} for kind in KINDS}


@click.command()
@click.option("--rounds", type=click.IntRange(min=5), default=7, show_default=True)
@click.option("--calls", type=click.IntRange(min=20), default=150, show_default=True, help="Per measurement.")
@json_option
def main(rounds: int, calls: int, as_json: bool) -> None:
    """Measure the synchronous gRPC server against grpc.aio on a model that costs almost nothing."""
    table = measure(rounds, calls)
    if as_json:
        click.echo(json.dumps(table))
        return
    names = list(table["bare"])
    click.echo(" " * 8 + "".join(f"{name:>21}" for name in names))
    for kind, figures in table.items():
        click.echo(f"{kind:<8}" + "".join(f"{figures[name]:>21.3f}" for name in names))


if __name__ == "__main__":
    main()
