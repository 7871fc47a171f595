"""A real MLflow server that a test can stop and start again."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

from serving.addresses import free_port


class MlflowServer:
    """On SQLite, handing out the artefacts itself."""

    def __init__(self, folder):
        self._folder = folder
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self._folder / "artifacts")]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self._folder / "log").read_text()[-2000:])

    def stop(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self, frozen):
        """Let it accept connections, and answer none."""
        os.killpg(self._process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)
