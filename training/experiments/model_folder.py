"""An exported file as a model of MLflow: its flavour, signature, example and requirements, and the exact bytes."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from serving.frames import decode_image


def log_model(client: MlflowClient, experiment_id: str, run_id: str | None, path: Path, frame: Path, name: str) -> str:
    """Log a file as a model of a run; return the model's identifier.

    Parameters
    ----------
    client
        Of MLflow.
    experiment_id, run_id
        Where; no run for a file of which MLflow knows none.
    path
        The ONNX file.
    frame
        An image of the model's input size, its example.
    name
        Of the model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_model_folder(folder, path, decode_image(frame.read_bytes()))
        return log_folder(client, experiment_id, run_id, folder, name)


def log_folder(client: MlflowClient, experiment_id: str, run_id: str | None, folder: Path, name: str) -> str:
    """Log a folder that holds a model; it is ready once all of it is there."""
    logged = client.create_logged_model(experiment_id=experiment_id, name=name, source_run_id=run_id)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def write_model_folder(folder: Path, path: Path, frame: NDArray[np.uint8]) -> None:
    """Write a file as MLflow lays models out.

    Parameters
    ----------
    folder
        Is made.
    path
        The ONNX file, which is copied: MLflow by itself would write it anew, and its digest would be another.
    frame
        The example, uint8 [H, W, 3] of the input size.
    """
    mlflow.onnx.save_model(
        onnx.load(path),
        folder,
        signature=signature((frame.shape[0], frame.shape[1])),
        input_example=frame[None],
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
        pip_requirements=[f"onnxruntime=={onnxruntime.__version__}", f"numpy=={version('numpy')}"],
    )
    shutil.copyfile(path, folder / "model.onnx")


def signature(size: tuple[int, int]) -> ModelSignature:
    """Return what MLflow is told of a file's input and outputs, for an input size in pixels."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *size, 3), "frames")]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *size), output) for output in ("class_ids", "confidence")]),
    )
