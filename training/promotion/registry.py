"""The registered model in MLflow: one version for each exported file, with what is needed to judge and retrain it.

A version's folder is an MLflow model of the flavour `onnx` whose `model.onnx` holds the exported bytes, beside
`golden/` (a frame and what the file answers for it) and, where the run was at hand, `training/` (what a retraining
starts from). It becomes visible last, whole, with its tags.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from serving.errors import InputError
from serving.frames import encode_png, resize_frame
from serving.model import Model
from serving.registry import DIGEST_TAG, RegisteredVersion, RegistryClient, read_golden, registry_errors
from training.experiments.model_folder import log_folder, write_model_folder
from training.experiments.sender import PIPELINE_TAG, ensure_experiment
from training.tracking import follow_uri

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
"""The aliases; `champion` and `previous` follow the ledger."""
PRECISION_TAG = "onepixel.precision"
TRAINING_FILES = ("network.safetensors", "settings.yaml", "pixels.yaml")
"""What `training/` holds."""


@dataclass(frozen=True)
class Downloaded:
    """A version's files."""

    version: RegisteredVersion
    """Which it is."""
    folder: Path
    """Where they are."""

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def training(self) -> Path | None:
        """What a retraining starts from; None where it was registered without."""
        folder = self.folder / "training"
        return folder if all((folder / name).is_file() for name in TRAINING_FILES) else None

    @property
    def golden(self) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
        """The golden frame, uint8 [H, W, 3], and its mask, uint8 [H, W]."""
        return read_golden(self.folder)


class Registry:
    """The versions of one registered model.

    Parameters
    ----------
    uri
        Of MLflow.
    name
        Of the model.
    """

    def __init__(self, uri: str, name: str) -> None:
        follow_uri(uri)  # parts of MLflow ask the global setting, not the client
        self.name, self.uri = name, uri
        self._reader = RegistryClient(uri)
        self.client = self._reader.client

    def register(
        self, path: Path, *, golden_frame: NDArray[np.uint8], training: Path | None = None
    ) -> RegisteredVersion:
        """Make a file a version, and the candidate; a file that is a version already only becomes the candidate.

        Parameters
        ----------
        path
            The exported ONNX file.
        golden_frame
            uint8 [H, W, 3] of any size, for which the file's answer is kept.
        training
            A folder with `TRAINING_FILES`.

        Raises
        ------
        InputError
            If the file is none that `onepixel export` wrote, a training file is missing, or the registry does not
            answer.
        """
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        with registry_errors(self.uri):
            known = self._with_digest(digest) or self._create(path, digest, golden_frame, training)
            self.client.set_registered_model_alias(self.name, CANDIDATE, known.version)
        return self.version(str(known.version))

    def version(self, number: str) -> RegisteredVersion:
        """Return a version.

        Raises
        ------
        InputError
            If there is none of this number.
        """
        try:
            found = self.client.get_model_version(self.name, number)
        except MlflowException as error:
            raise InputError(f"registry {self.uri}: {self.name} has no version {number}: {error}") from error
        tags = dict(found.tags)
        return RegisteredVersion(self.name, str(found.version), tags.get(DIGEST_TAG, ""), tags)

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions, the first one first."""
        return [
            RegisteredVersion(self.name, str(one.version), one.tags.get(DIGEST_TAG, ""), dict(one.tags))
            for one in sorted(all_versions(self.client, self.name), key=lambda one: int(one.version))
        ]

    def alias(self, alias: str) -> str | None:
        """Return the version that an alias stands at; None where it stands nowhere."""
        try:
            return str(self.client.get_model_version_by_alias(self.name, alias).version)
        except MlflowException:
            return None

    def record(self, version: str, tags: Mapping[str, str]) -> None:
        """Write tags on a version, in their order."""
        self._reader.tag(self.version(version), tags)

    def forget(self, version: str, tags: Iterable[str]) -> None:
        """Take tags away from a version."""
        with registry_errors(self.uri):
            for tag in tags:
                self.client.delete_model_version_tag(self.name, version, tag)

    def download(self, version: str, folder: Path) -> Downloaded:
        """Fetch a version's files to `<folder>/<version>`; whether they are whole is the gates' to say."""
        found = self.version(version)
        return Downloaded(found, self._reader.fetch(found, folder / version))

    def has_run(self, run_id: str) -> bool:
        """Whether MLflow knows a run, by its identifier, or by the key that it has while MLflow is away."""
        try:
            self.client.get_run(run_id)
        except MlflowException:
            experiments = [found.experiment_id for found in self.client.search_experiments()]
            return bool(self.client.search_runs(experiments, f"tags.`{PIPELINE_TAG}` = '{run_id}'", max_results=1))
        return True

    def knows_run_of(self, version: str) -> bool:
        """Whether MLflow knew the run of a version when it was registered."""
        with registry_errors(self.uri):
            return bool(self.client.get_model_version(self.name, version).run_id)

    def _with_digest(self, digest: str) -> ModelVersion | None:
        alike = (one for one in all_versions(self.client, self.name) if one.tags.get(DIGEST_TAG) == digest)
        return min(alike, key=lambda one: int(one.version), default=None)

    def _create(self, path: Path, digest: str, golden_frame: NDArray[np.uint8], training: Path | None) -> ModelVersion:
        model = Model.load(path)
        ensure_registered(self.client, self.name)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            _write_folder(folder, path, model, golden_frame, training)
            experiment_id = ensure_experiment(self.client, self.name)
            run_id = model.metadata.mlflow_run_id if self.has_run(model.metadata.mlflow_run_id) else None
            model_id = log_folder(self.client, experiment_id, run_id, folder, self.name)
        tags = {DIGEST_TAG: digest, PRECISION_TAG: model.metadata.precision, "onepixel.gates": "none"}
        return self.client.create_model_version(
            self.name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
        )


def ensure_registered(client: mlflow.MlflowClient, name: str) -> None:
    """Make a registered model of this name where there is none; several may try at once."""
    with registry_errors(client.tracking_uri):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def all_versions(client: mlflow.MlflowClient, name: str) -> list[ModelVersion]:
    """Return every version of a registered model, in no order; none where there is no such model.

    Raises
    ------
    InputError
        If the registry does not answer.
    """
    found: list[ModelVersion] = []
    token = None
    while True:
        with registry_errors(client.tracking_uri):
            page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _write_folder(
    folder: Path, path: Path, model: Model, golden_frame: NDArray[np.uint8], training: Path | None
) -> None:
    """Write a version's folder."""
    size = model.input_size
    frame = np.asarray(resize_frame(golden_frame, *size))
    mask, _ = model.segment(frame)
    write_model_folder(folder, path, frame)
    golden = folder / "golden"
    golden.mkdir()
    (golden / "frame.png").write_bytes(encode_png(frame))
    (golden / "mask.png").write_bytes(encode_png(mask))
    if training is not None:
        (folder / "training").mkdir()
        for name in TRAINING_FILES:
            if not (training / name).is_file():
                raise InputError(f"{training}: {name} is missing, from which a retraining would start")
            shutil.copyfile(training / name, folder / "training" / name)
