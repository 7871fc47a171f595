"""What TorchServe does when a new version is loaded while frames flow: `python -m serving.torchserve.swap`.

Model control is on for this alone. Two clients ask one after the other all along; a second version is registered with a
worker, then made the default. Standard output is one JSON object.
"""

import json
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from serving.benchmarks.workload import street_like_jpeg
from serving.client import Client, Credentials, ServerError
from serving.errors import InputError
from serving.model import Model, name_and_version
from serving.torchserve.package import package
from serving.torchserve.process import TorchServe

CLIENTS = 2
CALM = 10.0
"""Seconds of load before the swap and after it."""
FIRST, SECOND = "1", "2"


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default="model_store/camvid/1/model.onnx", show_default=True)
def main(model: Path) -> None:
    """Swap a model in TorchServe under load; exit 2 if Java or TorchServe is missing."""
    try:
        report = swap(model)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    click.echo(json.dumps(report))


def swap(model: Path) -> dict[str, Any]:
    """Serve a file, load it as another version under load, and make that the default.

    Returns
    -------
    `frames`, `failed`, `register_seconds` (its worker runs then), `default_seconds`, `first_answer_seconds` (after
    that), `stale` (answers of the first version to frames that were sent later), `p99_before_ms` and `p99_during_ms`
    (from the registration to the default).
    """
    Model.load(model)
    name, _ = name_and_version(model)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first = package(model, folder / "first.mar", name=name, version=FIRST)
        torchserve = TorchServe(first, model_control=True)
        stack.callback(torchserve.stop)
        package(model, torchserve.folder / "models" / "second.mar", name=name, version=SECOND)
        pool, ended = stack.enter_context(ThreadPoolExecutor(CLIENTS)), threading.Event()
        stack.callback(ended.set)
        arguments = (torchserve.grpc_address, name, Credentials(token=torchserve.token), ended)
        asking = [pool.submit(_ask, *arguments) for _ in range(CLIENTS)]
        time.sleep(2 * CALM)  # the first half warms it up
        began = time.monotonic()
        _manage(torchserve, "POST", "/models?url=second.mar&initial_workers=1&synchronous=true")
        registered = time.monotonic()
        _manage(torchserve, "PUT", f"/models/{name}/{SECOND}/set-default")
        default = time.monotonic()
        time.sleep(CALM)
        ended.set()
        told = [client.result(60) for client in asking]
    answers = sorted(answer for of_client, _ in told for answer in of_client)
    failures = [failure for _, of_client in told for failure in of_client]
    swapped = [came for came, _, version in answers if version == SECOND]
    before = [took for came, took, _ in answers if began - CALM < came < began]
    during = [took for came, took, _ in answers if began < came < default]
    if not swapped or not before or not during:
        raise InputError(f"TorchServe did not swap under load: {failures[:3]}")
    return {
        "frames": len(answers) + len(failures),
        "failed": len(failures),
        "register_seconds": round(registered - began, 2),
        "default_seconds": round(default - registered, 3),
        "first_answer_seconds": round(swapped[0] - default, 3),
        "stale": sum(version == FIRST and came - took > default for came, took, version in answers),
        "p99_before_ms": round(1e3 * float(np.quantile(before, 0.99)), 1),
        "p99_during_ms": round(1e3 * float(np.quantile(during, 0.99)), 1),
    }


def _ask(
    address: str, model_name: str, credentials: Credentials, ended: threading.Event
) -> tuple[list[tuple[float, float, str]], list[str]]:
    """Ask for the same frame over and over until the end.

    Returns
    -------
    Of each answer when it came, as of `time.monotonic`, how many seconds it took, and its version; and the failures.
    """
    answers, failures = [], []
    frame = street_like_jpeg(360, 480, 0)
    with Client(address, model_name=model_name, credentials=credentials, timeout=60) as client:
        while not ended.is_set():
            began = time.monotonic()
            try:
                version = client.segment(frame).model_version
            except ServerError as error:
                failures.append(str(error))
            else:
                now = time.monotonic()
                answers.append((now, now - began, version))
    return answers, failures


def _manage(torchserve: TorchServe, method: str, path: str) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{torchserve.management_port}{path}",
        method=method,
        headers={"Authorization": f"Bearer {torchserve.management_token}"},
    )
    with urllib.request.urlopen(request, timeout=120):
        pass


if __name__ == "__main__":
    main()
