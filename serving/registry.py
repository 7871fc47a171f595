"""Models of an MLflow registry: `models:/NAME@ALIAS` and `models:/NAME/VERSION` to a version, and that to its folder.

Needs the extra `registry` (mlflow-skinny), which is imported when it is asked. A version's folder holds `model.onnx`,
the exact bytes whose sha256 is the version's tag `onepixel.digest`, and `golden/frame.png` with `golden/mask.png`: what
the file answered where it was made.
"""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.addresses import without_password
from serving.errors import InputError
from serving.frames import Pixels, decode_image
from serving.model import Model

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEME = "models:/"
DIGEST_TAG = "onepixel.digest"
"""Tag of a version: sha256 of its file's bytes, hexadecimal."""
LEAST_GOLDEN_AGREEMENT = 0.995
"""Share of a golden frame's pixels that a file must answer as it did where it was made: near ties may differ between
processors."""
_URI = re.compile(r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|/(?P<version>[1-9][0-9]*))")
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Where the environment says nothing else: MLflow waits for minutes by default."""


@dataclass(frozen=True)
class RegistryUri:
    """What `models:/...` says: a model, and either an alias or a version of it."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def parse(cls, text: str, setting: str = "model") -> "RegistryUri":
        """Read `models:/NAME@ALIAS` or `models:/NAME/VERSION`, the value of a setting.

        Raises
        ------
        InputError
            If it is neither.
        """
        match = _URI.fullmatch(text)
        if match is None:
            raise InputError(f"{setting}: '{text}' should be models:/NAME@ALIAS or models:/NAME/VERSION")
        return cls(match["name"], match["alias"], match["version"])


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, as the registry has it now."""

    name: str
    version: str
    digest: str
    """What its file's sha256 must be; empty where nobody has said."""
    tags: dict[str, str]


class RegistryClient:
    """Asks an MLflow registry; each call waits for a bounded time.

    Parameters
    ----------
    uri
        Of the registry; None takes MLFLOW_TRACKING_URI.

    Raises
    ------
    InputError
        If there is none, or mlflow is not installed.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        if not self.uri:
            raise InputError(
                "repository.registry_uri: where is the MLflow registry? Say it here or in MLFLOW_TRACKING_URI"
            )
        for variable, value in _MLFLOW.items():
            os.environ.setdefault(variable, value)
        try:
            import mlflow
        except ModuleNotFoundError as error:
            raise InputError("models:/ needs mlflow: pip install 'onepixel[registry]'") from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.client: MlflowClient = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def resolve(self, uri: RegistryUri) -> RegisteredVersion:
        """Return the version that a URI means now.

        Raises
        ------
        InputError
            If there is no such model, alias or version, or the registry does not answer.
        """
        with registry_errors(self.uri):
            if uri.alias is not None:
                found = self.client.get_model_version_by_alias(uri.name, uri.alias)
            else:
                found = self.client.get_model_version(uri.name, str(uri.version))
        tags = dict(found.tags)
        return RegisteredVersion(found.name, str(found.version), tags.get(DIGEST_TAG, ""), tags)

    def fetch(self, version: RegisteredVersion, folder: Path) -> Path:
        """Download a version's files.

        Parameters
        ----------
        version
            From `resolve`.
        folder
            Where they go; it appears whole or not at all. What is there already is not fetched again.

        Returns
        -------
        `folder`.

        Raises
        ------
        InputError
            If the registry does not answer.
        """
        if not folder.exists():
            part = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            with registry_errors(self.uri):
                from mlflow.artifacts import download_artifacts

                source = self.client.get_model_version_download_uri(version.name, version.version)
                fetched = download_artifacts(artifact_uri=source, dst_path=str(part), tracking_uri=self.uri)
            Path(fetched).replace(folder)
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        """Write tags on a version."""
        with registry_errors(self.uri):
            for key, value in tags.items():
                self.client.set_model_version_tag(version.name, version.version, key, value)


def check_digest(folder: Path, version: RegisteredVersion) -> None:
    """Raise InputError where a version's file is not the one that was registered."""
    path = folder / "model.onnx"
    if not path.is_file():
        raise InputError(f"{version.name} version {version.version}: holds no model.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != version.digest:
        raise InputError(
            f"{version.name} version {version.version}: model.onnx has {path.stat().st_size} bytes of sha256 {digest}, "
            f"its tag {DIGEST_TAG} says {version.digest or 'nothing'}"
        )


def check_golden(folder: Path, model: Model) -> float:
    """Let a model answer its golden frame; return the share of pixels that are as they were, 1.0 where there is none.

    Raises
    ------
    InputError
        If fewer than 99.5 % are, or it cannot be asked.
    """
    frame, mask = read_golden(folder)
    if frame is None or mask is None:
        return 1.0
    told = f"{model.name} version {model.version}"
    if mask.shape != frame.shape[:2]:
        raise InputError(f"{told}: golden/mask.png has {mask.shape[:2]} pixels, golden/frame.png {frame.shape[:2]}")
    try:
        answered, confidence = model.segment(frame)
    except Exception as error:  # the engine's own
        raise InputError(f"{told}: fails on its golden frame: {error}") from error
    if not confidence.any():
        raise InputError(f"{told}: answers its golden frame with no confidence at all")
    agreement = float((answered == mask).mean())
    if agreement < LEAST_GOLDEN_AGREEMENT:
        raise InputError(
            f"{told}: {agreement:.2%} of its golden frame's pixels are answered as where it was made; "
            f"{LEAST_GOLDEN_AGREEMENT:.1%} are needed"
        )
    return agreement


def read_golden(folder: Path) -> tuple[Pixels | None, Pixels | None]:
    """Return a version's golden frame, uint8 [H, W, 3], and mask, uint8 [H, W]; None and None where it has none."""
    paths = folder / "golden" / "frame.png", folder / "golden" / "mask.png"
    if not all(path.is_file() for path in paths):
        return None, None
    return decode_image(paths[0].read_bytes()), decode_image(paths[1].read_bytes())[..., 0]


@contextmanager
def registry_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow and its transport raise into an InputError that names the registry, without its password."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # MLflow's own, and those of requests and of SQLAlchemy
        first = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
        raise InputError(f"registry {without_password(uri)}: {first}") from error
