"""TorchServe as a process of ours: safe settings, ready when a worker has answered a frame, stopped cleanly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.client import Client, ServerError
from serving.credentials import Credentials
from serving.errors import InputError
from serving.torchserve.package import read_manifest

STARTING, ENDING = 180.0, 20.0
"""Seconds that TorchServe may take until a worker answers, and to end."""
MAX_MESSAGE = 2**25
"""Bytes of a request and of an answer: raw RGB frames up to 3840 x 2160."""
CONFIG = """\
inference_address=http://{host}:{http_port}
management_address=http://127.0.0.1:{management_port}
metrics_address=http://127.0.0.1:{metrics_port}
grpc_inference_address={host}
grpc_inference_port={grpc_port}
grpc_management_address=127.0.0.1
grpc_management_port={grpc_management_port}
disable_token_authorization=false
token_expiration_min=5256000
enable_model_api={model_control}
install_py_dep_per_model=false
allowed_urls=file:///dev/null
max_request_size={most}
max_response_size={most}
model_store={store}
load_models={archive}
models={models}
"""
"""Loopback, tokens, no other models, no packages installed on request. The token lasts ten years: TorchServe
would let it end after an hour, and says the new one to the management address alone."""


@dataclass(frozen=True)
class Ports:
    """Where TorchServe listens; 0 takes a free one."""

    grpc: int = 7070
    http: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_management: int = 7071


class TorchServe:
    """A running TorchServe with one model.

    Parameters
    ----------
    archive
        What `package` wrote.
    ports
        Where it listens.
    host
        On which address.
    workers
        Processes that answer, each on one thread.
    batch
        Frames of one inference at most; a batch waits `batch_delay_ms` for more.
    batch_delay_ms
        Milliseconds.
    model_control
        Whether its management address may load other archives of its store, `folder / "models"`.

    Raises
    ------
    InputError
        If Java, TorchServe or its torch is missing, the archive is none, or no worker answers in time.
    """

    def __init__(
        self,
        archive: Path,
        ports: Ports = Ports(),
        *,
        host: str = "127.0.0.1",
        workers: int = 1,
        batch: int = 4,
        batch_delay_ms: int = 2,
        model_control: bool = False,
    ) -> None:
        check_installed()
        manifest = read_manifest(archive)
        self.name, self.version = manifest["modelName"], manifest["modelVersion"]
        self.folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
        self.grpc_address = f"torchserve://{host}:{ports.grpc or _free_port()}"
        self.http_address = f"torchserve+http://{host}:{ports.http or _free_port()}"
        store = self.folder / "models"
        store.mkdir()
        shutil.copyfile(archive, store / archive.name)
        models = {self.name: {self.version: _model(archive.name, workers, batch, batch_delay_ms)}}
        self.management_port = ports.management or _free_port()
        config = CONFIG.format(
            host=host,
            http_port=self.http_address.rpartition(":")[2],
            grpc_port=self.grpc_address.rpartition(":")[2],
            management_port=self.management_port,
            metrics_port=ports.metrics or _free_port(),
            grpc_management_port=ports.grpc_management or _free_port(),
            most=MAX_MESSAGE,
            model_control=str(model_control).lower(),
            store=store,
            archive=archive.name,
            models=json.dumps(models),
        )
        (self.folder / "config.properties").write_text(config)
        self._log = (self.folder / "log").open("ab")
        command = [
            str(Path(sys.executable).parent / "torchserve"),
            "--foreground",
            "--start",
            "--model-store",
            str(store),
        ]
        command += ["--ts-config", str(self.folder / "config.properties")]
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=self._log,
            stderr=self._log,
            env=_environment(self.folder),
            start_new_session=True,
        )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of its first process, whose children are the frontend and the workers."""
        return self._process.pid

    @property
    def token(self) -> str:
        """What calls must bring (`authorization: Bearer TOKEN`)."""
        return self._key("inference")

    @property
    def management_token(self) -> str:
        """The like for its management address."""
        return self._key("management")

    def is_running(self) -> bool:
        """Tell whether it has not ended by itself."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it and its workers, and take its folder away."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the end of what it has said."""
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _key(self, kind: str) -> str:
        content = json.loads((self.folder / "key_file.json").read_text())
        return str(content[kind]["key"])

    def _wait_ready(self) -> None:
        """Wait until a worker has described the model, which it can once it has loaded it."""
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            if not self.is_running():
                raise InputError(f"TorchServe ended before it was ready:\n{self.log_tail()}")
            with suppress(OSError, ValueError, ServerError, grpc.RpcError):  # the key's file may not be whole yet
                credentials = Credentials(token=self.token)
                with Client(self.grpc_address, model_name=self.name, credentials=credentials, timeout=10) as client:
                    client.model_info()
                    return
            time.sleep(0.3)
        raise InputError(f"TorchServe: no worker answers within {STARTING:.0f} s:\n{self.log_tail()}")


def check_installed() -> None:
    """Raise InputError where what TorchServe needs is missing."""
    if shutil.which("java") is None:
        raise InputError(
            "TorchServe needs Java 17, and there is no `java`: on Debian, apt-get install openjdk-17-jre-headless"
        )
    if not (Path(sys.executable).parent / "torchserve").exists():
        raise InputError("TorchServe is not installed here: pip install 'onepixel[serving,cpu,torchserve]'")


def _model(archive: str, workers: int, batch: int, batch_delay_ms: int) -> dict[str, object]:
    return {
        "defaultVersion": True,
        "marName": archive,
        "minWorkers": workers,
        "maxWorkers": workers,
        "batchSize": batch,
        "maxBatchDelay": batch_delay_ms,
        "responseTimeout": 120,
    }


def _environment(folder: Path) -> dict[str, str]:
    binaries = str(Path(sys.executable).parent)
    places = [place for place in (os.environ.get("PYTHONPATH"),) if place]
    return os.environ | {
        "PATH": f"{binaries}:{os.environ.get('PATH', '')}",
        "PYTHONPATH": ":".join(places),
        "TMPDIR": str(folder),  # Python's and Java's: sockets and process number would be another TorchServe's
        "TEMP": str(folder),
        "TS_DISABLE_TOKEN_AUTHORIZATION": "false",
    }


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
