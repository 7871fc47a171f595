"""The commands `serve` and `segment`, mounted by `onepixel` and `python -m serving`.

Only click is imported until one runs.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli_support import json_option
from serving.errors import InputError

if TYPE_CHECKING:
    from serving.client import Client
    from serving.segment_files import Result

DEFAULT_ADDRESS = "127.0.0.1:50051"
SHIPPED_MODEL = Path("model_store", "camvid", "1", "model.onnx")
"""In the repository, which is where this package lies unless it was installed from a wheel."""
PATIENCE = 5.0
"""Seconds that `segment` waits for a server that may be starting."""


@click.command()
@click.option(
    "--model", "model_path", type=click.Path(path_type=Path), help="The exported ONNX file. [default: the shipped one]"
)
@click.option(
    "--address", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT to listen at; loopback by default."
)
@click.option("--name", help="What requests call the model. [default: by the path]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Of one inference. [default: one per core]")
@click.option("--max-pixels", type=click.IntRange(min=1), help="Largest frame, width x height. [default: 33554432]")
@click.option("--max-message-bytes", type=click.IntRange(1, 2**31 - 1), help="Largest request. [default: 33554432]")
@click.option("--places", type=click.IntRange(min=1), help="Frames held at once; more are refused. [default: 64]")
@click.option("--max-streams", type=click.IntRange(min=0), help="Streams at the same time. [default: 16]")
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Frames held for one stream. [default: 16]")
@click.option("--grace", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Seconds to drain.")
@json_option
def serve(
    model_path: Path | None,
    address: str,
    name: str | None,
    device: Any,
    threads: int,
    grace: float,
    as_json: bool,
    **limits: int | None,
) -> None:
    """Serve an ONNX model over gRPC until SIGTERM or SIGINT, then drain and exit 0.

    The shipped model, CamVid's 11 classes, lies in the repository's model_store. When ready, one line on standard
    output says where; with port 0, which port it is.
    """
    import logging
    import signal
    import threading

    from pydantic import ValidationError

    from serving.model import Model
    from serving.server import Limits, Server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        checked = Limits.model_validate({key: value for key, value in limits.items() if value is not None})
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"]) from error
    model = Model.load(model_path or _shipped_model(), name=name, device=device, threads=threads)
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    server = Server(model, address, checked)
    server.start()
    ready = {
        "address": server.address,
        "model_name": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
    }
    text = f"serving {model.name} version {model.version} at {server.address} (sha256 {model.digest})"
    click.echo(json.dumps(ready) if as_json else text)
    stop.wait()
    logging.getLogger(__name__).info("draining, %g s at most", grace)
    server.stop(grace)


@click.command()
@click.argument("source", metavar="FILE|FOLDER|VIDEO", type=click.Path(path_type=Path))
@click.option("--server", "address", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT of the server.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.")
@json_option
def segment(source: Path, address: str, out: Path, as_json: bool) -> None:
    """Segment an image, a folder of images or a video through a server.

    Writes for each frame <stem>.png (class ids, 8-bit greyscale) and <stem>_overlay.png (colours over the frame); for
    a video <stem>_000001.png and so on, and one <stem>_overlay.mp4. Exits 1 if any frame failed; the others are there.
    """
    from tqdm import tqdm

    from serving.client import Client, ServerError

    began = time.monotonic()
    frames = 0
    failures: list[dict[str, str]] = []
    with Client(address) as client:
        try:
            client.wait_ready(PATIENCE)
        except ServerError as error:
            raise InputError(f"--server: {error.message}") from error
        info = client.model_info()
        total, results = _plan(client, source, out)
        try:
            for result in tqdm(results, total=total, unit="frame", delay=2, disable=None):
                frames += 1
                if result.failure is not None:
                    failures.append({"name": result.name, "failure": result.failure})
                    tqdm.write(f"failed: {result.name}: {result.failure}", file=sys.stderr)
        except ServerError as error:
            raise InputError(f"{source}: the server ended the stream: {error}") from error
    summary = {
        "frames": frames,
        "failed": len(failures),
        "seconds": round(time.monotonic() - began, 3),
        "failures": failures,
        "out": str(out),
        "model_name": info.name,
        "model_version": info.version,
        "model_digest": info.digest,
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        for key in ("frames", "failed", "seconds", "out", "model_name", "model_version"):
            click.echo(f"{key.replace('_', ' '):<14} {summary[key]}")
    raise SystemExit(1 if failures else 0)


def _plan(client: "Client", source: Path, out: Path) -> tuple[int, Iterator["Result"]]:
    from serving import segment_files as files

    if source.suffix.lower() in files.VIDEO_SUFFIXES and source.is_file():
        return files.count_frames(source), files.segment_video(client, source, out)
    images = files.find_images(source, out)
    return len(images), files.segment_images(client, images, out)


def _shipped_model() -> Path:
    for folder in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (folder / SHIPPED_MODEL).is_file():
            return folder / SHIPPED_MODEL
    raise InputError(f"--model: none is given, and {SHIPPED_MODEL} is not here; give an ONNX file of `onepixel train`")


COMMANDS = (serve, segment)
