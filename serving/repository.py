"""The served models by name and version, and how they change while the server runs.

What is in the file or folder is what is served: a version that appears is read, verified and warmed up beside the
others, and only then answers; one that goes away takes no new frames, and ends with those that it has. Whoever asks
gets one whole `Model`, so that no answer mixes two. A version that cannot be served is refused and named in the log,
and what was served before stays.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from types import MappingProxyType

from serving.background import yielding
from serving.errors import InputError
from serving.memory import give_memory_back
from serving.model import Model, name_and_version

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Name and version."""
Signature = Hashable
"""What changes with a file: its inode, its size and when it was changed, or its digest."""
Load = Callable[[Path, str, str], Model]
"""Reads, verifies and warms up the model of a path, a name and a version."""


class UnknownModel(LookupError):
    """No such model, or no such version of it, is served."""


class Repository:
    """The models that a server serves; all methods may be called from any thread.

    Parameters
    ----------
    models
        What is served from the start.
    default_model
        The model of requests that name none; None means the only one.

    Raises
    ------
    InputError
        If there is no model, or not the default one.
    """

    def __init__(self, models: Mapping[Key, Model], default_model: str | None = None) -> None:
        self._default = default_model
        self._models: Mapping[Key, Model] = {}
        self._newest: Mapping[str, Model] = {}
        self._show(models)
        if not models:
            raise InputError("no model to serve")
        if default_model is not None and default_model not in self._newest:
            raise InputError(f"default_model: '{default_model}' is not served; {_listed(self._newest)} is")
        if default_model is None and len(self._newest) > 1:
            logger.warning("requests that name no model are refused; default_model: one of %s", _listed(self._newest))

    @classmethod
    def of(cls, model: Model) -> "Repository":
        """Serve one model that does not change."""
        return cls({(model.name, model.version): model})

    def find(self, name: str = "", version: str = "") -> Model:
        """Return a served model.

        Parameters
        ----------
        name
            Empty means the default model.
        version
            Empty means the newest.

        Raises
        ------
        UnknownModel
            If it is not served, or none is the default.
        """
        newest = self._newest
        name = name or self._default or (next(iter(newest)) if len(newest) == 1 else "")
        if not name:
            raise UnknownModel(f"no model is named, and none is the default; {_listed(newest)} are served")
        if name not in newest:
            raise UnknownModel(f"model '{name}' is not served; {_listed(newest)} is")
        if not version:
            return newest[name]
        models = self._models
        if (name, version) not in models:
            versions = _listed(version for served, version in models if served == name)
            raise UnknownModel(f"version '{version}' of model '{name}' is not served; {versions} is")
        return models[name, version]

    def models(self) -> list[Model]:
        """Return all that are served, by name and version."""
        return [model for _, model in sorted(self._models.items(), key=lambda item: _order(item[0]))]

    def _show(self, models: Mapping[Key, Model]) -> None:
        ordered = sorted(models.items(), key=lambda item: _order(item[0]))
        self._models = MappingProxyType(dict(ordered))
        self._newest = MappingProxyType({name: model for (name, _), model in ordered})


class WatchedRepository(Repository):
    """The models of a file or a folder, followed as they change.

    Parameters
    ----------
    source
        A file, or a folder of `<name>/<version>/model.onnx`.
    load
        What reads a model.
    name
        What requests call the model of a file; None means by its path.
    default_model
        As of `Repository`.

    Raises
    ------
    InputError
        If a model cannot be served, there is none, or not the default one.
    """

    def __init__(self, source: Path, load: Load, *, name: str | None = None, default_model: str | None = None) -> None:
        if name is not None and source.is_dir():
            raise InputError(f"name: '{name}' is for the model of a file; in the folder {source} each has its own")
        self._source, self._load, self._name = source, load, name
        self._ended = threading.Event()
        self._seen = self._look()
        super().__init__({key: load(path, *key) for key, (path, _) in self._seen.items()}, default_model)

    def refresh(self) -> bool:
        """Look once, and follow what has changed; return whether anything has."""
        seen = self._look()
        if seen == self._seen:
            return False
        models: dict[Key, Model] = {}
        for key, (path, signature) in seen.items():
            if key in self._models and self._seen.get(key) == (path, signature):
                models[key] = self._models[key]
            elif self._seen.get(key) != (path, signature):
                self._try(models, key, path)
        self._seen = seen
        if not models:
            logger.error("%s: no model that can be served; what was served stays", self._source)
            return True
        for key in self._models.keys() - models.keys():
            logger.info("model %s version %s is served no more", *key)
        self._show(models)
        return True

    def watch(self, seconds: float, *, alone: bool = False) -> None:
        """Look every so many seconds, on a thread of its own, until `close`.

        Parameters
        ----------
        seconds
            How often.
        alone
            Whether reading a model starts no threads that stay; see `yielding`.
        """

        def look() -> None:
            failure, changed = "", False
            while not self._pause(seconds):
                if changed:
                    give_memory_back()  # what was let go has answered its frames by now
                try:
                    with yielding(alone=alone):
                        changed = self.refresh()
                    failure = ""
                except Exception as error:  # as of a disk that fails: the next look may succeed
                    if failure != (failure := str(error)):
                        logger.error("what was served stays: %s", error, exc_info=not isinstance(error, InputError))

        threading.Thread(target=look, name="repository", daemon=True).start()

    def close(self) -> None:
        """Look no more; a model that is being read is not waited for."""
        self._ended.set()

    def _pause(self, seconds: float) -> bool:
        """Wait for the next look; return whether there is to be none."""
        return self._ended.wait(seconds)

    def _try(self, models: dict[Key, Model], key: Key, path: Path) -> None:
        try:
            models[key] = self._load(path, *key)
        except InputError as error:
            logger.error("model %s version %s is refused: %s", *key, error)
            if key in self._models:
                models[key] = self._models[key]
        else:
            logger.info("model %s version %s is served (sha256 %s)", *key, models[key].digest)

    def _look(self) -> dict[Key, tuple[Path, Signature]]:
        """Return the models' files by name and version, as they are now."""
        found: dict[Key, tuple[Path, Signature]] = {}
        if self._source.is_dir():
            paths = [path for path in sorted(self._source.glob("*/*/model.onnx")) if path.parent.name.isdecimal()]
        else:
            paths = [self._source]
        for path in paths:
            name, version = name_and_version(path)
            try:
                stat = path.stat()
            except OSError as error:
                if self._source.is_dir():
                    continue  # it went away just now
                raise InputError(f"{path}: cannot be read: {error.strerror}") from error
            key = (name if self._source.is_dir() else self._name or name, version)
            found[key] = (path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
        if self._source.is_dir() and not found:
            raise InputError(f"{self._source}: no <name>/<version>/model.onnx in this folder")
        return found


def _order(key: Key) -> tuple[str, int, str]:
    name, version = key
    return name, int(version) if version.isdecimal() else 0, version


def _listed(names: object) -> str:
    return ", ".join(f"'{name}'" for name in names)  # type: ignore[attr-defined]
