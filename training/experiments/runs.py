"""A finished run as MLflow has it: settings, metrics by step, pictures."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from serving.configuration import parse, read_text
from serving.errors import InputError
from training.experiments.sender import PIPELINE_TAG, STAGE_TAG, is_away
from training.tracking import be_quick

REPORTED = ("val/", "twin/", "pseudo/", "export/")
"""Metrics that say how good something is, by how their keys begin; others say what it cost."""

_EVALUATION = re.compile(r"round_(\d+)/evaluation")


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

    Raises
    ------
    InputError
        If MLflow knows no such URI, or it is of a database that is not there.
    """

    def __init__(self, uri: str) -> None:
        database = Path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:///") and not database.is_file():
            raise InputError(f"--uri {uri}: there is no database {database.resolve()}")  # MLflow would make one
        be_quick()
        try:
            self.uri, self._client = uri, mlflow.MlflowClient(uri)
        except MlflowException as error:
            raise InputError(f"--uri {uri}: {error.message.strip()}") from error

    def read(self, run_id: str, folder: Path) -> KnownRun:
        """Fetch what is said of a run.

        Parameters
        ----------
        run_id
            Of a pipeline's own run, or of one of its stages; or the key that names a run whose training began while
            MLflow did not answer.
        folder
            Takes `settings.yaml` and `pixels.yaml`.

        Raises
        ------
        InputError
            If there is no such run, or no pipeline made it; if MLflow does not answer, or a file is not there.
        """
        run = self._find(run_id)
        run_id = str(run.info.run_id)
        parent = run.data.tags.get("mlflow.parentRunId")
        if STAGE_TAG in run.data.tags and parent:
            return self.read(parent, folder)
        if PIPELINE_TAG not in run.data.tags:
            raise InputError(f"RUN {run_id}: is not of `onepixel train`; it has no tag {PIPELINE_TAG}")
        for name in ("settings.yaml", "pixels.yaml"):
            self.fetch(run_id, name, folder)
        settings = parse(read_text(folder / "settings.yaml"), str(folder / "settings.yaml"))
        return KnownRun(run, settings, {key: self._history(run_id, key) for key in self._reported(run)})

    def fetch(self, run_id: str, name: str, folder: Path) -> Path:
        """Fetch a file or a folder of a run; raises InputError where that cannot be."""
        try:
            there = download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder), tracking_uri=self.uri)
        except (MlflowException, OSError) as error:
            raise InputError(f"RUN {run_id}: {name} cannot be fetched from {self.uri} ({error})") from error
        return Path(there)

    def figures(self, run: KnownRun, folder: Path) -> dict[str, Path]:
        """Fetch the pictures of a run's last evaluation, by name."""
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        stages = self._client.search_runs([run.run.info.experiment_id], query)
        named = {stage.data.tags.get(STAGE_TAG, ""): stage.info.run_id for stage in stages}
        rounds = {int(found[1]): named[name] for name in named if (found := _EVALUATION.fullmatch(name))}
        if not rounds or not self._client.list_artifacts(rounds[max(rounds)], "figures"):
            return {}
        fetched = self.fetch(rounds[max(rounds)], "figures", folder)
        return {path.stem: path for path in sorted(fetched.glob("*.png"))}

    def _find(self, run_id: str) -> Run:
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if is_away(error):
                raise InputError(f"--uri {self.uri}: MLflow does not answer ({error})") from error
            experiments = [one.experiment_id for one in self._client.search_experiments()]
            found = self._client.search_runs(experiments, f"tags.`{PIPELINE_TAG}` = '{run_id}'")
            if not found:
                raise InputError(f"RUN {run_id}: MLflow at {self.uri} knows no such run ({error})") from error
            return found[0]

    def _reported(self, run: Run) -> list[str]:
        return sorted(key for key in run.data.metrics if key.startswith(REPORTED))

    def _history(self, run_id: str, key: str) -> dict[int, float]:
        return {point.step: point.value for point in self._client.get_metric_history(run_id, key)}
