"""The programs that the loop runs beside itself: an MLflow server, a serving process, and the command `onepixel`."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from serving.addresses import free_port

STARTING = 120.0
"""Seconds that a server may take to answer."""
ENDING = 30.0
"""Seconds that a process may take to end once it is asked to; then it is killed."""


def onepixel(*arguments: str | Path, log: Path, expected: Sequence[int] = (0,)) -> tuple[int, dict[str, Any]]:
    """Run the command with `--json`, at low priority; return its exit status and what it printed.

    Raises
    ------
    RuntimeError
        If the status is not among those expected, with the end of what it said.
    """
    command = ["nice", "-n", "10", sys.executable, "-m", "training.cli", *map(str, arguments), "--json"]
    with log.open("ab") as errors:
        errors.write(f"\n$ onepixel {' '.join(map(str, arguments))}\n".encode())
        errors.flush()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, check=False)
    if done.returncode not in expected:
        tail = log.read_text(errors="replace")[-1500:]
        raise RuntimeError(f"onepixel {arguments[0]} ended with status {done.returncode}; see {log}\n{tail}")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


@contextmanager
def mlflow_server(folder: Path, log: Path) -> Iterator[str]:
    """Run an MLflow server on SQLite that hands out the artefacts itself; gives its address, a URI.

    Its webhooks may go to this machine, without TLS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder.resolve()}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", str(folder.resolve() / "artifacts")]
    with _running(command, log, MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http", MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true"):
        uri = f"http://127.0.0.1:{port}"
        _wait_until_answers(f"{uri}/health")
        yield uri


@contextmanager
def serving(arguments: Sequence[str | Path], tracking_uri: str, log: Path) -> Iterator[dict[str, str]]:
    """Run `onepixel serve`; gives its `address` and its `metrics_address`, HOST:PORT, once it is ready."""
    command = [sys.executable, "-m", "serving", "serve", "--json", "--address", "127.0.0.1:0"]
    command += ["--metrics-address", "127.0.0.1:0", *map(str, arguments)]
    with _running(command, log, speaks=True, MLFLOW_TRACKING_URI=tracking_uri) as process:
        assert process.stdout is not None
        line = process.stdout.readline()  # its own start is bounded: it ends where it cannot serve
        if not line:
            raise RuntimeError(f"the server did not start; see {log}\n{log.read_text(errors='replace')[-1500:]}")
        yield json.loads(line)


@contextmanager
def _running(
    command: Sequence[str], log: Path, *, speaks: bool = False, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if speaks else errors,
            stderr=errors,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the workers that it may have left
        process.wait()


def _wait_until_answers(url: str) -> None:
    deadline = time.monotonic() + STARTING
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url}: does not answer within {STARTING:.0f} s") from None
            time.sleep(0.2)
