"""The model of a registry's alias, followed: what `models:/NAME@champion` means is looked up again and again.

A version that the alias moves to is fetched beside the served one, held to its digest, its description and its golden
frame, warmed up, and only then answers. One that fails is refused, and what was served stays. Files are kept in a
cache, so that going back needs no download, and a server can start while the registry is away.
"""

import json
import logging
import shutil
import threading
from pathlib import Path

from serving.errors import InputError
from serving.files import whole_file
from serving.model import Model
from serving.registry import RegisteredVersion, RegistryClient, RegistryUri, check_digest, check_golden
from serving.repository import Key, Load, Signature, WatchedRepository

logger = logging.getLogger(__name__)

KEPT = 2
"""Versions in the cache: the served one and the one before."""


class FollowedRepository(WatchedRepository):
    """The one model that an alias, or a version, of a registered model means.

    Parameters
    ----------
    uri
        `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
    registry
        Where it is looked up.
    cache
        The folder for the versions' files.
    load
        What reads a model.

    Raises
    ------
    InputError
        If the registry does not answer and the cache does not know what was served, or the model cannot be served.
    """

    def __init__(self, uri: RegistryUri, registry: RegistryClient, cache: Path, load: Load) -> None:
        self._uri, self._registry, self._cache = uri, registry, cache / uri.name
        self._found: dict[str, RegisteredVersion] = {}
        self._hinted = threading.Event()
        super().__init__(self._cache, lambda path, name, version: self._checked(load, path, name, version))
        self._prune()

    def hint(self) -> None:
        """Look soon: somebody says that the alias has moved."""
        self._hinted.set()

    def refresh(self) -> bool:
        """Look once, and follow what has changed; return whether anything has."""
        changed = super().refresh()
        if changed:
            self._prune()
        return changed

    def _pause(self, seconds: float) -> bool:
        """Wait for the next look or a hint; return whether there is to be none."""
        self._hinted.wait(seconds)
        self._hinted.clear()
        return self._ended.is_set()

    def close(self) -> None:
        """Look no more."""
        super().close()
        self._hinted.set()

    def _checked(self, load: Load, path: Path, name: str, version: str) -> Model:
        found = self._found[version]
        check_digest(path.parent, found)
        model = load(path, name, version)
        check_golden(path.parent, model)
        return model

    def _look(self) -> dict[Key, tuple[Path, Signature]]:
        found = self._resolve()
        self._found[found.version] = found
        folder = self._registry.fetch(found, self._cache / found.version)
        path = folder / "model.onnx"
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{found.name} version {found.version}: holds no model.onnx") from error
        return {(found.name, found.version): (path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))}

    def _resolve(self) -> RegisteredVersion:
        """Ask the registry; where it is away at the start, take what was served last."""
        note = self._cache / f"{self._uri.alias or self._uri.version}.json"
        try:
            found = self._registry.resolve(self._uri)
        except InputError as error:
            if self._found or not note.is_file():
                raise
            logger.warning("%s; version %s was served last", error, json.loads(note.read_text())["version"])
            return RegisteredVersion(**json.loads(note.read_text()))
        if found.version not in self._found:
            with whole_file(note) as temporary:
                temporary.write_text(json.dumps(vars(found)))
        return found

    def _prune(self) -> None:
        """Take from the cache what is neither served nor was before."""
        served = {model.version for model in self.models()}
        folders = [folder for folder in self._cache.iterdir() if folder.name.isdecimal()]
        folders.sort(key=lambda folder: (folder.name in served, folder.stat().st_mtime), reverse=True)
        for folder in folders[KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)
