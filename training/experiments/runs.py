"""A finished run as MLflow has it: settings, metrics by step, pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from serving.configuration import parse, read_text
from serving.errors import InputError
from training.experiments.sender import PIPELINE_TAG, STAGE_TAG

REPORTED = ("val/", "twin/", "pseudo/", "export/")
"""Metrics that say how good something is, by how their keys begin; others say what it cost."""


@dataclass(frozen=True)
class KnownRun:
    """A pipeline's run."""

    run: Run
    """As MLflow has it."""
    settings: dict[str, Any]
    """The settings file that it was started with."""
    metrics: dict[str, dict[int, float]]
    """Value by step, by key; those of `REPORTED`."""

    @property
    def run_id(self) -> str:
        """Its identifier."""
        return str(self.run.info.run_id)

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.run.info.run_name} {self.run_id[:8]}"


class Runs:
    """Reads the runs of an MLflow.

    Parameters
    ----------
    uri
        Of MLflow.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self._client = uri, mlflow.MlflowClient(uri)

    def read(self, run_id: str, folder: Path) -> KnownRun:
        """Fetch what is said of a run.

        Parameters
        ----------
        run_id
            Of a pipeline's own run, or of one of its stages.
        folder
            Takes `settings.yaml` and `pixels.yaml`.

        Raises
        ------
        InputError
            If there is no such run, or no pipeline made it.
        """
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            raise InputError(f"RUN {run_id}: MLflow at {self.uri} knows no such run ({error})") from error
        parent = run.data.tags.get("mlflow.parentRunId")
        if STAGE_TAG in run.data.tags and parent:
            return self.read(parent, folder)
        if PIPELINE_TAG not in run.data.tags:
            raise InputError(f"RUN {run_id}: is not of `onepixel train`; it has no tag {PIPELINE_TAG}")
        for name in ("settings.yaml", "pixels.yaml"):
            try:
                self.fetch(run_id, name, folder)
            except MlflowException as error:
                raise InputError(f"RUN {run_id}: {name} cannot be fetched ({error})") from error
        settings = parse(read_text(folder / "settings.yaml"), str(folder / "settings.yaml"))
        return KnownRun(run, settings, {key: self._history(run_id, key) for key in self._reported(run)})

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch a file or a folder of a run."""
        return Path(download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder), tracking_uri=self.uri))

    def figures(self, run: KnownRun, folder: Path) -> dict[str, Path]:
        """Fetch the pictures of a run's last evaluation, by name."""
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        stages = self._client.search_runs([run.run.info.experiment_id], query)
        named = {stage.data.tags.get(STAGE_TAG, ""): stage.info.run_id for stage in stages}
        last = max((name for name in named if name.startswith("round_") and name.endswith("/evaluation")), default=None)
        if last is None:
            return {}
        fetched = self.fetch(named[last], "figures", folder)
        return {path.stem: path for path in sorted(fetched.glob("*.png"))}

    def _reported(self, run: Run) -> list[str]:
        return sorted(key for key in run.data.metrics if key.startswith(REPORTED))

    def _history(self, run_id: str, key: str) -> dict[int, float]:
        return {point.step: point.value for point in self._client.get_metric_history(run_id, key)}
