"""TorchServe as a process of ours: safe settings, ready when a worker has answered a frame, stopped cleanly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc

from serving.addresses import free_port
from serving.client import Client, ServerError
from serving.credentials import Credentials
from serving.errors import InputError
from serving.frames import MAX_PIXELS
from serving.torchserve.package import read_manifest

STARTING, ENDING = 180.0, 20.0
"""Seconds that TorchServe may take until a worker answers, and to end."""
MAX_REQUEST = 2**25
"""Bytes: raw RGB frames up to 3840 x 2160, or compressed ones up to the handler's limit of pixels."""
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
max_request_size={max_request}
max_response_size={max_response}
model_store={store}
load_models={archive}
models={models}
"""
"""Loopback, tokens, no other models, no packages installed on request. The token lasts ten years: TorchServe
would let it end after an hour, and says the new one to the management address alone."""
LOGGING = """\
<Configuration>
  <Appenders>
    <RollingFile name="log" fileName="{folder}/log" filePattern="{folder}/log.%i">
      <PatternLayout pattern="%d{{ISO8601}} [%-5p] %c - %m%n"/>
      <SizeBasedTriggeringPolicy size="4 MB"/>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="MODEL_LOG" level="info"/>
    <Root level="warn"><AppenderRef ref="log"/></Root>
  </Loggers>
</Configuration>
"""
"""Log4j's: what goes wrong, and what the workers say, in at most two files of 4 MB."""


class TorchServe:
    """A running TorchServe with one model.

    Parameters
    ----------
    archive
        What `package` wrote.
    grpc_port, http_port
        Where it answers; 0 takes free ones, as its management and its metrics do.
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
    stop
        Ends the wait for the first worker when it is set; then what is returned may not be ready.

    Raises
    ------
    InputError
        If Java, TorchServe or its torch is missing, the archive is none, or no worker answers in time.
    """

    def __init__(
        self,
        archive: Path,
        *,
        grpc_port: int = 0,
        http_port: int = 0,
        host: str = "127.0.0.1",
        workers: int = 1,
        batch: int = 4,
        batch_delay_ms: int = 2,
        model_control: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        check_installed()
        manifest = read_manifest(archive)
        self.name, self.version = manifest["modelName"], manifest["modelVersion"]
        grpc_port, http_port = grpc_port or free_port(), http_port or free_port()
        self.grpc_address = f"torchserve://{host}:{grpc_port}"
        self.http_address = f"torchserve+http://{host}:{http_port}"
        self.management_port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            store = self.folder / "models"
            store.mkdir()
            shutil.copyfile(archive, store / f"{self.name}.mar")
            models = {self.name: {self.version: _model(f"{self.name}.mar", workers, batch, batch_delay_ms)}}
            config = CONFIG.format(
                host=host,
                http_port=http_port,
                grpc_port=grpc_port,
                management_port=self.management_port,
                metrics_port=free_port(),
                grpc_management_port=free_port(),
                max_request=MAX_REQUEST,
                max_response=min(2**31 - 1, 2 * MAX_PIXELS * batch + 2**20),  # a batch's masks and confidences
                model_control=str(model_control).lower(),
                store=store,
                archive=f"{self.name}.mar",
                models=json.dumps(models),
            )
            self._start(config)
            self._wait_ready(stop or threading.Event())
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Of its first process, whose children are the frontend and the workers."""
        assert self._process is not None
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
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it and its workers, and take its folder away."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the end of what it has said."""
        said = (self.folder / name for name in ("output", "log"))
        return "".join(path.read_text(errors="replace") for path in said if path.exists())[-2000:]

    def _start(self, config: str) -> None:
        (self.folder / "config.properties").write_text(config)
        (self.folder / "log4j2.xml").write_text(LOGGING.format(folder=self.folder))
        command = [str(Path(sys.executable).parent / "torchserve"), "--foreground", "--start"]
        command += ["--model-store", str(self.folder / "models")]
        command += ["--ts-config", str(self.folder / "config.properties")]
        command += ["--log-config", str(self.folder / "log4j2.xml")]
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=output,
                stderr=output,
                env=_environment(self.folder),
                start_new_session=True,
            )

    def _key(self, kind: str) -> str:
        content = json.loads((self.folder / "key_file.json").read_text())
        return str(content[kind]["key"])

    def _wait_ready(self, stop: threading.Event) -> None:
        """Wait until a worker has described the model, which it can once it has loaded it; or for `stop`."""
        deadline = time.monotonic() + STARTING
        while not stop.wait(0.3):
            if time.monotonic() > deadline:
                raise InputError(f"TorchServe: no worker answers within {STARTING:.0f} s:\n{self.log_tail()}")
            if not self.is_running():
                raise InputError(f"TorchServe ended before it was ready:\n{self.log_tail()}")
            with suppress(OSError, ValueError, ServerError, grpc.RpcError):  # the key's file may not be whole yet
                credentials = Credentials(token=self.token)
                with Client(self.grpc_address, model_name=self.name, credentials=credentials, timeout=2) as client:
                    client.model_info()
                    return


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
    return os.environ | {
        "PATH": f"{binaries}:{os.environ.get('PATH', '')}",
        "TMPDIR": str(folder),  # Python's and Java's: sockets and process number would be another TorchServe's
        "TEMP": str(folder),
        "TS_DISABLE_TOKEN_AUTHORIZATION": "false",
    }
