"""MLflow's system metrics (processors, memory, disk, network, GPUs), sampled while a pipeline runs.

MLflow's own monitor speaks to the server by itself; here its samples go the way of all that is said.
"""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType

import torch
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

SECONDS = 10.0
"""Between two samples; the first comes when so much time has passed."""
SYSTEM = "system/"
"""Before the name of each metric, as MLflow's own monitor has it."""


class SystemMetrics:
    """Samples on a thread of its own while the context lasts.

    Parameters
    ----------
    say
        Takes each sample, by MLflow's keys (`system/cpu_utilization_percentage`, ...), and its number.
    first
        Number of the first sample: how many the run has already, where it goes on.
    """

    def __init__(self, say: Callable[[Mapping[str, float], int], None], first: int) -> None:
        self._say, self._number = say, first
        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        if torch.cuda.is_available():
            self._monitors.append(GPUMonitor())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)

    def __enter__(self) -> "SystemMetrics":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            values: dict[str, float] = {}
            for monitor in self._monitors:
                monitor.collect_metrics()
                values |= {f"{SYSTEM}{key}": value for key, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
            self._say(values, self._number)
            self._number += 1
