"""From settings to a server: where its models come from, and who observes what it answers."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serving.collect import Collector
from serving.errors import InputError
from serving.following import FollowedRepository
from serving.hooks import MlflowHook
from serving.model import Model
from serving.observers import Observer
from serving.registry import RegistryClient, RegistryUri
from serving.repository import WatchedRepository
from serving.server import Server
from serving.settings import ServerSettings
from serving.shadow import Shadow


@contextmanager
def open_server(settings: ServerSettings, source: Path) -> Iterator[tuple[WatchedRepository, Server]]:
    """Load the models and make the server, which is not started; files that were fetched for it go afterwards.

    Parameters
    ----------
    settings
        All that the server is told.
    source
        What `settings.model` says, or takes the place of where it says nothing.

    Yields
    ------
    The models, which are not watched yet, and the server.

    Raises
    ------
    InputError
        If a model cannot be served, the registry does not answer, an address cannot be bound, or a folder cannot be
        written to.
    """
    registered = settings.registered or settings.shadow.model is not None
    with ExitStack() as stack:
        cache = settings.repository.cache
        if registered and cache is None:
            temporary = tempfile.TemporaryDirectory(prefix="onepixel-", ignore_cleanup_errors=True)
            cache = Path(stack.enter_context(temporary))
        yield _assemble(settings, source, cache)


def _assemble(settings: ServerSettings, source: Path, cache: Path | None) -> tuple[WatchedRepository, Server]:
    """Do what `open_server` says; `cache` is there where models are registered."""

    def load(path: Path, name: str, version: str) -> Model:
        return Model.load(path, name=name, version=version, settings=settings.engine)

    repository: WatchedRepository
    hook = None
    if settings.registered and cache is not None:
        uri = RegistryUri.parse(str(source))
        followed = FollowedRepository(uri, RegistryClient(settings.repository.registry_uri), cache, load)
        if settings.repository.hint_secret is not None:
            hook = MlflowHook(settings.repository.hint_secret, followed.hint)
        repository = followed
    else:
        if "@" in source.name and not source.exists():
            raise InputError(f"--model {source}: no such file; a registered model is models:/{source}")
        repository = WatchedRepository(source, load, name=settings.name, default_model=settings.default_model)
    server = Server(repository, settings, hook=hook)
    observers: list[Observer] = []
    if settings.shadow.model is not None and cache is not None:
        client = RegistryClient(settings.repository.registry_uri)
        poll_seconds = settings.repository.poll_seconds
        observers.append(Shadow(settings.shadow, client, cache, server.metrics.registry, poll_seconds))
    if settings.collect.folder is not None:
        observers.append(Collector(settings.collect, server.metrics.registry))
    server.observe(*observers)
    return repository, server
