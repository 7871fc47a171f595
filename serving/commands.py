"""The commands `serve` and `segment`, and all that are mounted by `onepixel` and `python -m serving`.

Only click is imported until one runs.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serving.cli_support import DEFAULT_ADDRESS, credential_options, credentials, json_option, stop_signal
from serving.errors import InputError
from serving.torchserve import commands as torchserve_commands
from serving.tuning_command import tune
from serving.view.commands import view

if TYPE_CHECKING:
    from serving.client import Client
    from serving.segment_files import Result
    from serving.server import Server

SHIPPED_MODEL = Path("model_store", "camvid", "1", "model.onnx")
"""In the repository, which is where this package lies unless it was installed from a wheel."""
PATIENCE = 5.0
"""Seconds that `segment` waits for a server that may be starting, and `health` for its answer."""


@click.command()
@click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path),
    help="An ONNX file, a folder of NAME/VERSION/model.onnx, or models:/NAME@ALIAS. [default: the shipped file]",
)
@click.option("--address", help=f"HOST:PORT to listen at. [default: {DEFAULT_ADDRESS}, loopback]")
@click.option("--metrics-address", help="HOST:PORT of the metrics over HTTP; empty for none. [default: 127.0.0.1:8002]")
@click.option("--name", help="What requests call the model. [default: by the path]")
@click.option("--device", type=click.Choice(["cpu", "cuda", "tensorrt"]), help="What runs it. [default: cpu]")
@click.option("--threads", type=click.IntRange(min=0), help="Of one inference. [default: one per core]")
@click.option("--shadow", help="models:/NAME@ALIAS of a candidate that answers a share of the frames, too.")
@click.option("--collect", type=click.Path(path_type=Path, file_okay=False), help="Keep frames in this folder.")
@click.option("--collect-policy", type=click.Choice(["uncertain", "uniform"]), help="Which. [default: uncertain]")
@click.option("--collect-limit", type=click.IntRange(min=1), help="Frames at most. [default: 1000]")
@click.option("--grace", type=click.FloatRange(min=0), help="Seconds to drain. [default: 10]")
@click.option("--settings", "path", type=click.Path(path_type=Path), help="A YAML file of settings (docs/serving.md).")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting, such as queue.max_wait=2.")
@json_option
def serve(
    path: Path | None, overrides: tuple[str, ...], model_path: Path | None, as_json: bool, **options: Any
) -> None:
    """Serve ONNX models over gRPC.

    Until SIGTERM or SIGINT; then drain and exit 0.

    The shipped model, CamVid's 11 classes, lies in the repository's model_store. When ready, one line on standard
    output says where; with port 0, which port it is. A file or folder that changes is followed. Settings come from
    --settings, variables such as ONEPIXEL_SET_QUEUE__MAX_WAIT, --set, and these options; the later win.
    """
    import logging
    import os

    from serving.assembly import open_server
    from serving.logs import configure_logging
    from serving.memory import keep_freed_memory
    from serving.settings import load_server_settings

    keep_freed_memory()
    settings = load_server_settings(path, (*overrides, *_overrides(model=model_path, **options)), os.environ)
    configure_logging(settings.operations)
    logger = logging.getLogger(__name__)
    logger.info("settings: %s", settings.model_dump_json())
    stop = stop_signal()
    with open_server(settings, settings.model or _shipped_model()) as (repository, server):
        server.start()
        alone = settings.engine.threads == 1 and settings.engine.backend == "onnxruntime"
        repository.watch(settings.repository.poll_seconds, alone=alone)
        _say_ready(server, as_json)
        stop.wait()
        logger.info("draining, %g s at most", settings.grace)
        ended = server.stop(settings.grace)
        repository.close()
    if not ended:
        logger.error("the engine hangs: frames are left without an answer")
    logging.shutdown()
    os._exit(0 if ended else 1)  # else the interpreter would wait for threads, as of a registry that has frozen


def _say_ready(server: "Server", as_json: bool) -> None:
    models = [
        {"name": model.name, "version": model.version, "digest": model.digest} for model in server.repository.models()
    ]
    if as_json:
        click.echo(json.dumps({"address": server.address, "metrics_address": server.metrics_address, "models": models}))
        return
    for model in models:
        click.echo(f"serving {model['name']} version {model['version']} at {server.address} (sha256 {model['digest']})")
    if server.metrics_address:
        click.echo(f"metrics at http://{server.metrics_address}/metrics")


@click.command()
@click.argument("address", default=DEFAULT_ADDRESS)
@credential_options
def health(address: str, **files: Path | None) -> None:
    """Ask the server at ADDRESS whether it is ready.

    By gRPC's health protocol; exit 0 if it is, 1 if not.

    For a container's health check; it is answered without a token.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from serving.server_errors import ServerError, server_errors

    known = credentials(**files)
    try:
        with server_errors(), known.connect(grpc, address, ()) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE, metadata=known.metadata())
    except ServerError as error:
        click.echo(f"{address}: {error}", err=True)
        raise SystemExit(1) from error
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(name)
    raise SystemExit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


@click.command()
@click.argument("source", metavar="FILE|FOLDER|VIDEO", type=click.Path(path_type=Path))
@click.option("--server", "address", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT of the server.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.")
@click.option("--model", "model_name", default="", help="The served model. [default: the server's]")
@credential_options
@json_option
def segment(source: Path, address: str, model_name: str, out: Path, as_json: bool, **files: Path | None) -> None:
    """Segment an image, a folder or a video through a server.

    Writes for each frame <stem>.png (class ids, 8-bit greyscale) and <stem>_overlay.png (colours over the frame); for
    a video <stem>_000001.png and so on, and one <stem>_overlay.mp4. Exits 1 if any frame failed; the others are there.
    """
    import grpc
    from tqdm import tqdm

    from serving.client import Client, ServerError

    began = time.monotonic()
    frames = 0
    failures: list[dict[str, str]] = []
    total, results_of = _plan(source, out)
    with Client(address, model_name=model_name, credentials=credentials(**files)) as client:
        try:
            client.wait_ready(PATIENCE)
        except ServerError as error:
            option = "--model" if error.code is grpc.StatusCode.NOT_FOUND else "--server"
            raise InputError(f"{option}: {error.message}") from error
        info = client.model_info()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out: {out} cannot be made: {error.strerror}") from error
        try:
            for result in tqdm(results_of(client), total=total, unit="frame", delay=2, disable=None):
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


def _plan(source: Path, out: Path) -> tuple[int, Callable[["Client"], Iterator["Result"]]]:
    """Return how many frames there are, as far as that is known, and what segments them."""
    from serving import segment_files as files

    if source.suffix.lower() in files.VIDEO_SUFFIXES and source.is_file():
        return files.count_frames(source), partial(files.segment_video, video=source, out=out)
    images = files.find_images(source, out)
    return len(images), partial(files.segment_images, images=images, out=out)


def _overrides(**options: Any) -> list[str]:
    """Return the options that were given as `key=value`, as `--set` takes them."""
    sections = {
        "device": "engine.device",
        "threads": "engine.threads",
        "shadow": "shadow.model",
        "collect": "collect.folder",
        "collect_policy": "collect.policy",
        "collect_limit": "collect.limit",
    }
    given = {sections.get(key, key): value for key, value in options.items() if value is not None}
    return [f"{key}={json.dumps(str(value) if isinstance(value, Path) else value)}" for key, value in given.items()]


def _shipped_model() -> Path:
    for folder in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (folder / SHIPPED_MODEL).is_file():
            return folder / SHIPPED_MODEL
    raise InputError(f"--model: none is given, and {SHIPPED_MODEL} is not here; give an ONNX file of `onepixel train`")


COMMANDS = (serve, segment, health, view, tune, *torchserve_commands.COMMANDS)
