"""A gRPC server and nothing more: synchronous with a pool of threads, or on asyncio with an executor.

It speaks `Segment`, but sends the mask alone.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

from serving.benchmarks.engine import BareEngine

THREADS = 8
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def main(kind: str, model: str, port: str) -> None:
    """Serve until the process is ended; `kind` is "sync" or "aio"."""
    from onepixel.v1 import segmentation_pb2 as pb

    engine = BareEngine(model)

    def answer(data: bytes) -> bytes:
        request = pb.SegmentRequest.FromString(data)
        response = pb.SegmentResponse()
        response.segmentation.mask.data = engine.segment(request.frame.encoded.data)
        return response.SerializeToString()

    if kind == "aio":
        asyncio.run(_serve_aio(answer, port))
        return
    server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers([_handler(lambda request, context: answer(request))])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


async def _serve_aio(answer: Any, port: str) -> None:
    loop, executor = asyncio.get_running_loop(), ThreadPoolExecutor(THREADS)

    async def call(request: bytes, context: object) -> bytes:
        return await loop.run_in_executor(executor, answer, request)

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers([_handler(call)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def _handler(answer: Any) -> grpc.GenericRpcHandler:
    methods = {"Segment": grpc.unary_unary_rpc_method_handler(answer)}
    return grpc.method_handlers_generic_handler("onepixel.v1.SegmentationService", methods)


if __name__ == "__main__":
    main(*sys.argv[1:])
