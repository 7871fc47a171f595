"""Everything that is said to MLflow, in one place.

One parent run per pipeline, one nested run per stage. A pipeline that was interrupted and resumes leaves no double: it
finds its parent run by a tag, an interrupted stage's nested run is replaced, and no metric is said twice.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import torch
from mlflow.entities import Run
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from PIL import Image

from training.settings import TrackingSettings

PIPELINE_TAG = "onepixel.pipeline"
STAGE_TAG = "onepixel.stage"
_URI_VARIABLE = "MLFLOW_TRACKING_URI"


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
    """

    def __init__(self, uri: str, experiment: str) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        follow_uri(uri)
        self._client = mlflow.MlflowClient(uri)
        if mlflow.get_experiment_by_name(experiment) is None:
            database = Path(uri.removeprefix("sqlite:///")).resolve()
            beside = (database.parent / "mlartifacts").as_uri() if uri.startswith("sqlite:///") else None
            mlflow.create_experiment(experiment, beside)
        mlflow.set_experiment(experiment)

    @contextmanager
    def pipeline(self, name: str, key: str) -> Iterator[str]:
        """Open the parent run of the pipeline that `key` stands for, or reopen it; gives its identifier."""
        earlier: list[Run] = mlflow.search_runs(filter_string=f"tags.`{PIPELINE_TAG}` = '{key}'", output_format="list")
        run_id = earlier[0].info.run_id if earlier else None
        with mlflow.start_run(run_id=run_id, run_name=None if run_id else name, tags={PIPELINE_TAG: key}) as run:
            yield run.info.run_id

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Open the nested run of a stage; one that an interrupted pipeline left, with its model, is deleted first."""
        for run in self._runs_of(name):
            for model in run.outputs.model_outputs if run.outputs else []:
                self._client.delete_logged_model(model.model_id)
            self._client.delete_run(run.info.run_id)
        with mlflow.start_run(run_name=name, nested=True, tags={STAGE_TAG: name}):
            yield

    def has_stage(self, name: str) -> bool:
        """Whether the open pipeline has a run of a stage."""
        return bool(self._runs_of(name))

    def _runs_of(self, stage: str) -> list[Run]:
        query = f"tags.`{STAGE_TAG}` = \"{stage}\" AND tags.mlflow.parentRunId = '{_active_run().info.run_id}'"
        found: list[Run] = mlflow.search_runs(filter_string=query, output_format="list")
        return found

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str], files: list[Path]) -> None:
        """Log parameters (nested keys joined by dots), tags and files on the open run.

        A parameter that the run has stays as it was: MLflow knows no others, and a pipeline may go on with another
        number of workers.
        """
        known = mlflow.get_run(_active_run().info.run_id).data.params
        mlflow.log_params({key: value for key, value in _flatten(parameters) if key not in known})
        mlflow.set_tags(dict(tags))
        for path in files:
            mlflow.log_artifact(str(path))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of one step on the open stage's run and on the pipeline's own."""
        mlflow.log_metrics(dict(values), step=step)
        parent = _active_run().data.tags["mlflow.parentRunId"]
        for key, value in values.items():
            if all(point.step != step for point in self._client.get_metric_history(parent, key)):
                self._client.log_metric(parent, key, value, step=step)

    def curve(self, key: str, values: Mapping[int, float]) -> None:
        """Log a metric over many steps, step to value, on the open stage's run alone."""
        for step, value in values.items():
            mlflow.log_metric(key, value, step=step)

    def figure(self, picture: NDArray[np.uint8], name: str) -> None:
        """Log a picture, uint8 [H, W, 3], as `figures/<name>.png` on the open run."""
        mlflow.log_image(Image.fromarray(picture), f"figures/{name}.png")

    def model(self, path: Path, frame: NDArray[np.uint8]) -> str:
        """Log the ONNX file with signature and input example on the open run; return its MLflow URI.

        Parameters
        ----------
        path
            The exported file.
        frame
            A frame of the model's input size, uint8 [H, W, 3].
        """
        size = frame.shape[:2]
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *size, 3), "frames")]),
            outputs=Schema(
                [TensorSpec(np.dtype(np.uint8), (-1, *size), output) for output in ("class_ids", "confidence")]
            ),
        )
        info = mlflow.onnx.log_model(
            onnx.load(path),
            name="model",
            signature=signature,
            input_example=frame[None],
            save_as_external_data=False,
            onnx_execution_providers=["CUDAExecutionProvider"] * torch.cuda.is_available() + ["CPUExecutionProvider"],
            pip_requirements=["onnxruntime", "numpy"],
        )
        return info.model_uri


def follow_uri(uri: str) -> None:
    """Track here from now on, and quietly: standard output is for a command's own report.

    MLflow's side effect is taken back: it exports the URI, and the next pipeline would take it.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    inherited = os.environ.get(_URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(_URI_VARIABLE, None)
    if inherited is not None:
        os.environ[_URI_VARIABLE] = inherited


def _active_run() -> Run:
    run = mlflow.active_run()
    assert run is not None, "opened by `pipeline` or `stage`"
    return run


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
