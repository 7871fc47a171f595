"""Processes on a core of their own, and what they cost: processor seconds and memory, as Linux counts them.

A server is started by its command line and spoken to over its ports, like anybody's.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serving.errors import InputError

STARTING = 60.0
"""Seconds that a process may take to be ready."""
ENDING = 20.0
"""Seconds that it may take to end once it is asked to; then it is killed."""
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Cores:
    """Which core runs what is measured, and which one the generator; the same where there is only one."""

    server: int
    generator: int

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first and the last of the cores that this process may use.

        Raises
        ------
        InputError
            If the system is not Linux, whose affinity and /proc the figures need.
        """
        if not hasattr(os, "sched_getaffinity"):
            raise InputError("bench serving: needs Linux, to give each process a core and to read what it costs")
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])


def busy_shares(cores: Cores, seconds: float = 1.0) -> dict[str, float]:
    """Watch for `seconds` how busy the cores are, with whatever runs there; shares by the names of `Cores`."""

    def ticks(core: int) -> tuple[int, int]:
        line = next(text for text in Path("/proc/stat").read_text().splitlines() if text.startswith(f"cpu{core} "))
        fields = [int(field) for field in line.split()[1:9]]
        return sum(fields), fields[3] + fields[4]  # idle, and idle because a disk is waited for

    named = {"server": cores.server, "generator": cores.generator}
    before = {name: ticks(core) for name, core in named.items()}
    time.sleep(seconds)
    shares = {}
    for name, core in named.items():
        every, idle = (after - first for after, first in zip(ticks(core), before[name], strict=True))
        shares[name] = 1 - idle / max(1, every)
    return shares


class PinnedProcess:
    """A process, with those that it starts, on one core.

    Parameters
    ----------
    command
        What is run.
    core
        Where.
    log
        The file that takes its standard error.
    environment
        Variables that are set.
    folder
        Where it works; None means here.
    speaks
        Whether its standard output is for `read_line`; otherwise it goes to the log, too.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        speaks: bool = False,
    ) -> None:
        self.log = log
        with log.open("ab") as errors, on_core(core):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if speaks else errors,
                stderr=errors,
                env=os.environ | dict(environment or {}),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process.poll() is None

    def read_line(self, timeout: float = STARTING) -> str:
        """Read a line of its standard output.

        Raises
        ------
        RuntimeError
            If there is none in time, or it ended before.
        """
        assert self._process.stdout is not None
        clock = threading.Timer(timeout, self._process.kill)
        clock.start()
        line = self._process.stdout.readline()
        clock.cancel()
        if not line:
            raise RuntimeError(f"process {self.pid} ended before it was ready: {self.log_tail()}")
        return line.decode()

    def log_tail(self) -> str:
        """Return the end of what it wrote to standard error."""
        return self.log.read_text(errors="replace")[-2000:]

    def cpu_seconds(self) -> float:
        """Return the processor seconds that it and those that it started have taken so far, to a tick (10 ms)."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in _tree(self.pid)) / TICKS

    def resident_bytes(self) -> int:
        """Return its resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def proportional_bytes(self) -> int:
        """Return the memory of it and of those that it started, each shared page by its share."""
        total = 0
        for pid in _tree(self.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = ENDING) -> int | None:
        """Wait until it has ended, and return its exit status; None where it had to be killed."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End it and those that it started at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class ServerProcess(PinnedProcess):
    """A onepixel server, started and ready.

    Parameters
    ----------
    model
        A file, or a folder of `<name>/<version>/model.onnx`.
    core
        Where it runs, with one thread of the engine.
    log
        The file that takes its log.
    settings
        More of its settings.
    """

    def __init__(self, model: Path, core: int, log: Path, settings: Mapping[str, object] | None = None) -> None:
        command = [sys.executable, "-m", "serving", "serve", "--json", "--model", str(model)]
        command += ["--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--threads", "1"]
        for key, value in (settings or {}).items():
            command += ["--set", f"{key}={value}"]
        super().__init__(command, core, log, speaks=True)
        ready = json.loads(self.read_line())
        self.address: str = ready["address"]
        """HOST:PORT."""
        self._metrics: str = ready["metrics_address"]

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples of this name; 0 where there is none yet."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@contextmanager
def stopped_after(process: PinnedProcess) -> Iterator[None]:
    """Stop a process when the block ends, gently if it ended well."""
    try:
        yield
        process.ask_to_end()
        process.wait()
    finally:
        process.kill()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread on a core, and with it the processes that it starts, which stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += _tree(int(child))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
