"""The model of a registry's alias, followed: what `models:/NAME@champion` means is looked up again and again.

A version that the alias moves to is fetched beside the served one, held to its digest, its description and its golden
frame, warmed up, and only then answers. One that fails is refused, and what was served stays. Files are kept in a
cache, so that going back needs no download, and a server can start while the registry is away.
"""

import json
import logging
import os
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
"""Versions in the cache: the served one and the one that was served before."""


class FollowedRepository(WatchedRepository):
    """The one model that an alias, or a version, of a registered model means.

    At the start, where the registry is away or what it has cannot be served, what was served last is served again.

    Parameters
    ----------
    uri
        `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
    registry
        Where it is looked up.
    cache
        The folder for the versions' files, of this server alone.
    load
        What reads a model.

    Raises
    ------
    InputError
        If the registry does not answer, or the model cannot be served, and the cache holds none that was.
    """

    def __init__(self, uri: RegistryUri, registry: RegistryClient, cache: Path, load: Load) -> None:
        self._uri, self._registry, self._cache = uri, registry, cache / uri.name
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"repository.cache: {self._cache} cannot be made: {error.strerror}") from error
        if not os.access(self._cache, os.W_OK):
            raise InputError(f"repository.cache: {self._cache} cannot be written to")
        self._note = self._cache / f"{uri.alias or uri.version}.json"
        self._served = self._read_note()
        self._found: RegisteredVersion | None = None
        self._instead: RegisteredVersion | None = None
        self._hinted = threading.Event()

        def read(path: Path, name: str, version: str) -> Model:
            return self._checked(load, path, name, version)

        try:
            super().__init__(self._cache, read)
        except InputError as error:
            if not self._served or (self._found is not None and self._served[0].version == self._found.version):
                raise
            self._instead = self._served[0]
            logger.error("%s; version %s was served last, and is served again", error, self._instead.version)
            super().__init__(self._cache, read)
            self._instead = None
        self._note_served()

    def hint(self) -> None:
        """Look soon: somebody says that the alias has moved."""
        self._hinted.set()

    def refresh(self) -> bool:
        """Look once, and follow what has changed; return whether anything has."""
        changed = super().refresh()
        if changed:
            self._note_served()
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
        assert self._found is not None, "it was looked up"
        check_digest(path.parent, self._found)
        model = load(path, name, version)
        check_golden(path.parent, model)
        return model

    def _look(self) -> dict[Key, tuple[Path, Signature]]:
        found = self._instead or self._registry.resolve(self._uri)
        folder = self._cache / found.version
        if self._found is None or (found.version, found.digest) != (self._found.version, self._found.digest):
            try:
                check_digest(folder, found)
            except InputError:  # not fetched yet, or not as it is registered: as after a disk that failed
                shutil.rmtree(folder, ignore_errors=True)
                self._registry.fetch(found, folder)
            self._found = found
        return {(found.name, found.version): (folder / "model.onnx", found.digest)}

    def _note_served(self) -> None:
        """Write down what is served now, and take from the cache what is neither that nor was before."""
        (model,) = self.models()
        found = self._found
        if found is not None and (model.version, model.digest) == (found.version, found.digest):
            before = [one for one in self._served if one.version != found.version]
            self._served = [found, *before][:KEPT]
            with whole_file(self._note) as temporary:
                temporary.write_text(json.dumps([vars(one) for one in self._served]))
        kept = {one.version for one in self._served}
        for folder in self._cache.iterdir():
            if folder.name.isdecimal() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _read_note(self) -> list[RegisteredVersion]:
        """Return what was served, the last one first, by the cache."""
        try:
            return [RegisteredVersion(**one) for one in json.loads(self._note.read_text())]
        except (OSError, ValueError, TypeError):
            return []
