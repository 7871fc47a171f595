"""The same frames through every way to the same model: `python -m serving.torchserve.parity`, which `make parity` runs.

Our gRPC, our stream, our Open Inference Protocol, TorchServe's gRPC and TorchServe's HTTP. What comes back is compared
with what the model answers directly; standard output is one JSON object with the identical masks of each route.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import grpc
import numpy as np
from onepixel.oip import open_inference_pb2 as oip
from onepixel.oip import open_inference_pb2_grpc as oip_grpc

from serving.benchmarks.workload import street_like_jpeg
from serving.client import Client, Credentials
from serving.errors import InputError
from serving.frames import Pixels, decode_image, encode_png
from serving.model import Model
from serving.server import Server
from serving.torchserve.package import package
from serving.torchserve.process import TorchServe, check_installed

SIZES = ((360, 480), (512, 1024), (97, 131), (480, 640))
"""Of the frames, in turn: the network's own, larger, odd, and another aspect."""
Image = bytes | Pixels


def make_frames(count: int) -> list[Image]:
    """Return JPEGs, PNGs and raw pixels in turn."""
    frames: list[Image] = []
    for number in range(count):
        jpeg = street_like_jpeg(*SIZES[number % len(SIZES)], number)
        pixels = decode_image(jpeg)
        frames.append((jpeg, bytes(encode_png(pixels)), pixels)[number % 3])
    return frames


def expected_masks(model: Model, frames: Sequence[Image]) -> list[Pixels]:
    """Return what the model itself answers."""
    return [model.segment(frame if isinstance(frame, np.ndarray) else decode_image(frame))[0] for frame in frames]


def through_open_inference(address: str, model: str, frames: Sequence[Image]) -> Iterator[Pixels]:
    """Ask over the Open Inference Protocol; class ids come back as raw bytes."""
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        for frame in frames:
            request = oip.ModelInferRequest(model_name=model)
            if isinstance(frame, np.ndarray):
                height, width = frame.shape[:2]
                request.inputs.add(name="frames", datatype="UINT8", shape=[1, height, width, 3])
                request.raw_input_contents.append(frame.tobytes())
            else:
                request.inputs.add(name="images", datatype="BYTES", shape=[1])
                request.raw_input_contents.append(len(frame).to_bytes(4, "little") + frame)
            answer = stub.ModelInfer(request, timeout=60)
            names = [output.name for output in answer.outputs]
            place = names.index("class_ids")
            shape = answer.outputs[place].shape[1:]
            yield np.frombuffer(answer.raw_output_contents[place], np.uint8).reshape(tuple(shape))


def identical(masks: Iterator[Pixels], expected: Sequence[Pixels]) -> int:
    """Count the masks that are as they should be."""
    return sum(bool(np.array_equal(mask, right)) for mask, right in zip(masks, expected, strict=True))


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default="model_store/camvid/1/model.onnx", show_default=True)
@click.option("--frames", "count", type=click.IntRange(min=1), default=100, show_default=True)
def main(model: Path, count: int) -> None:
    """Send the same frames through every route; exit 1 if a mask differs, 2 if Java or TorchServe is missing."""
    try:
        check_installed()
        loaded = Model.load(model)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    frames = make_frames(count)
    expected = expected_masks(loaded, frames)
    counts: dict[str, int] = {}
    with ExitStack() as stack:
        server = Server(loaded)
        server.start()
        stack.callback(server.stop, 1.0)
        client = stack.enter_context(Client(server.address))
        counts["onepixel_grpc"] = identical((client.segment(frame).mask for frame in frames), expected)
        counts["onepixel_stream"] = identical(_masks(client, frames), expected)
        answers = through_open_inference(server.address, loaded.name, frames)
        counts["open_inference_protocol"] = identical(answers, expected)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        click.echo(f"{time.strftime('%H:%M:%S')} starting TorchServe", err=True)
        torchserve = TorchServe(package(model, folder / f"{loaded.name}.mar"))
        stack.callback(torchserve.stop)
        credentials = Credentials(token=torchserve.token)
        for route, address in (
            ("torchserve_grpc", torchserve.grpc_address),
            ("torchserve_rest", torchserve.http_address),
        ):
            other = stack.enter_context(Client(address, model_name=loaded.name, credentials=credentials))
            counts[route] = identical((other.segment(frame).mask for frame in frames), expected)
            counts[f"{route}_stream"] = identical(_masks(other, frames), expected)
    click.echo(json.dumps({"frames": count, "identical": counts, "model_digest": loaded.digest}))
    sys.exit(0 if set(counts.values()) == {count} else 1)


def _masks(client: Client, frames: Sequence[Image]) -> Iterator[Pixels]:
    for outcome in client.stream(frames):
        yield np.zeros((0, 0), np.uint8) if outcome.segmentation is None else outcome.segmentation.mask


if __name__ == "__main__":
    main()
