"""Everything that is said to MLflow, in one place.

One parent run per pipeline, one nested run per stage. What is said is first kept in the pipeline's folder
(`experiments.spool`) and said from there by a thread (`experiments.sender`), so that an MLflow that is down or slow
never ends or holds up a training: what could not be said is said later, at the latest when the pipeline resumes. A
pipeline that was interrupted leaves no double.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from serving.frames import encode_png
from training.experiments.sender import Sender
from training.experiments.spool import Spool
from training.experiments.system_metrics import SYSTEM, SystemMetrics
from training.settings import TrackingSettings

logger = logging.getLogger(__name__)

FOLDER = "tracking"
"""Of the spool, in a pipeline's folder."""
START_SECONDS, END_SECONDS = 20.0, 30.0
"""How long a pipeline waits for MLflow at most, to make its run and to take the last of what is said."""
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_MLFLOW = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Where the environment says nothing else: standard output is for a command's report, and MLflow waits for minutes."""


def tracking_uri(settings: TrackingSettings, folder: Path) -> str:
    """Return where to track: the setting, else MLFLOW_TRACKING_URI, else a SQLite database in the folder."""
    return settings.uri or os.environ.get(_URI_VARIABLE) or f"sqlite:///{folder.resolve() / 'mlflow.db'}"


class Tracker:
    """The MLflow runs of one pipeline.

    Parameters
    ----------
    uri
        Tracking URI. A SQLite database has its artefacts beside it.
    experiment
        Name of the experiment, which is made where it is missing.
    folder
        The pipeline's, which keeps what is to be said.
    """

    def __init__(self, uri: str, experiment: str, folder: Path) -> None:
        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        follow_uri(uri)
        self._uri, self._experiment = uri, experiment
        self._spool = Spool(folder / FOLDER)
        self._sender: Sender | None = None
        self._stage: str | None = None

    @contextmanager
    def pipeline(self, name: str, key: str) -> Iterator[str]:
        """Open the parent run of the pipeline that `key` stands for, or reopen it.

        Gives the run's identifier, or `key` where MLflow does not answer in time: the run has it as a tag.
        """
        self._sender = Sender(self._spool, self._uri)
        self._add("pipeline", name=name, key=key, experiment=self._experiment)
        self._key = key
        metrics = SystemMetrics(
            lambda values, number: self._say_metrics([(name, number, value) for name, value in values.items()]),
            first=self._samples(),
        )
        try:
            with metrics, self._ended():
                yield self._sender.wait_run(START_SECONDS) or key
        finally:
            left = self._sender.close(END_SECONDS)
            if left:
                logger.warning(
                    "MLflow at %s has not taken %d records; they are kept, and said when this goes on (--resume)",
                    self._uri,
                    left,
                )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Open the nested run of a stage, in place of one that an interrupted pipeline left.

        Where standard error is no terminal, and so has no progress bars, a line says that the stage is complete.
        """
        self._stage, began = name, time.monotonic()
        self._add("stage", name=name)
        try:
            with self._ended():
                yield
            if not sys.stderr.isatty():
                seconds = time.monotonic() - began
                print(f"{time.strftime('%H:%M:%S')} {name}: complete, {seconds:.0f} s", file=sys.stderr)
        finally:
            self._stage = None

    def has_stage(self, name: str) -> bool:
        """Whether the open pipeline has a run of a stage, said or to be said."""
        return any(record["kind"] == "stage" and record["name"] == name for record in self._said())

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str], files: list[Path]) -> None:
        """Log parameters (nested keys joined by dots), tags and files on the open run.

        A parameter that the run has stays as it was: MLflow knows no others, and a pipeline may go on with another
        number of workers.
        """
        self._add("parameters", values={key: str(value) for key, value in _flatten(parameters)})
        self._add("tags", values=dict(tags))
        for path in files:
            self._add("file", path=self._spool.keep(path.read_bytes(), path.name), folder="")

    def text(self, content: str, name: str) -> None:
        """Log a text as the file `name`, which may have folders, on the open run."""
        path = Path(name)
        folder = str(path.parent) if path.parent.name else ""
        self._add("file", path=self._spool.keep(content.encode(), path.name), folder=folder)

    def dataset(self, name: str, context: str, digest: str, source: str, frames: int) -> None:
        """Log what the open run reads: a data set by name, what for, its manifest's sha256, and where it lies."""
        profile = f'{{"frames": {frames}, "sha256": "{digest}"}}'
        # MLflow's digests have 36 characters at most.
        self._add("dataset", name=name, context=context, digest=digest[:32], source=source, profile=profile)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of one step on the open stage's run and on the pipeline's own."""
        self._say_metrics([(key, step, value) for key, value in values.items()], stage=self._stage, pipeline_too=True)

    def curve(self, key: str, values: Mapping[int, float]) -> None:
        """Log a metric over many steps, step to value, on the open stage's run alone."""
        self._say_metrics([(key, step, value) for step, value in values.items()], stage=self._stage)

    def figure(self, picture: NDArray[np.uint8], name: str) -> None:
        """Log a picture, uint8 [H, W, 3], as `figures/<name>.png` on the open run."""
        self._add("file", path=self._spool.keep(encode_png(picture), f"{name}.png"), folder="figures")

    def model(self, path: Path, frame: NDArray[np.uint8]) -> None:
        """Log the ONNX file with signature and input example on the open run, as the model `model`.

        Parameters
        ----------
        path
            The exported file, which stays where it is, or moves together with the pipeline's folder.
        frame
            A frame of the model's input size, uint8 [H, W, 3].
        """
        self._add("model", model=self._spool.name(path), path=self._spool.keep(encode_png(frame), "example.png"))

    def _said(self) -> Iterator[dict[str, Any]]:
        """Give what was said of the open pipeline, now and before it went on."""
        mine = False
        for record in self._spool.records:
            if record["kind"] == "pipeline":
                mine = record["key"] == self._key
            elif mine:
                yield record

    def _samples(self) -> int:
        """Count the open pipeline's samples of the system's metrics."""
        points = (record["points"] for record in self._said() if record["kind"] == "metrics")
        return sum(any(name.startswith(SYSTEM) for name, _, _ in sample) for sample in points)

    def _say_metrics(
        self, points: list[tuple[str, int, float]], *, stage: str | None = None, pipeline_too: bool = False
    ) -> None:
        plain = [(key, step, float(value)) for key, step, value in points]
        self._add("metrics", points=plain, pipeline_too=pipeline_too and stage is not None, stage=stage)

    def _add(self, kind: str, **content: Any) -> None:
        record = {"stage": self._stage, "time": int(time.time() * 1000), **content}
        self._spool.add(kind, **record)
        if self._sender is not None:
            self._sender.wake()

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Say how the run ended that is open now."""
        try:
            yield
        except BaseException as error:
            self._add("end", status="FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        self._add("end", status="FINISHED")


def be_quick() -> None:
    """Let MLflow wait for seconds, not minutes, and print nothing, where the environment says nothing else."""
    for variable, value in _MLFLOW.items():
        os.environ.setdefault(variable, value)


def follow_uri(uri: str) -> None:
    """Track here from now on, and quietly.

    MLflow's side effect is taken back: it exports the URI, and the next pipeline would take it.
    """
    be_quick()
    inherited = os.environ.get(_URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(_URI_VARIABLE, None)
    if inherited is not None:
        os.environ[_URI_VARIABLE] = inherited


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
