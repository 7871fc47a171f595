"""From settings to a server: where its models come from, and who observes what it answers."""

import tempfile
from pathlib import Path

from serving.collect import Collector
from serving.following import FollowedRepository
from serving.hooks import MlflowHook
from serving.model import Model
from serving.observers import Observer
from serving.registry import RegistryClient, RegistryUri
from serving.repository import WatchedRepository
from serving.server import Server
from serving.settings import ServerSettings
from serving.shadow import Shadow


def open_server(settings: ServerSettings, source: Path) -> tuple[WatchedRepository, Server]:
    """Load the models and make the server, which is not started.

    Parameters
    ----------
    settings
        All that the server is told.
    source
        What `settings.model` says, or takes the place of where it says nothing.

    Raises
    ------
    InputError
        If a model cannot be served, the registry does not answer, an address cannot be bound, or a folder cannot be
        written to.
    """

    def load(path: Path, name: str, version: str) -> Model:
        return Model.load(path, name=name, version=version, settings=settings.engine)

    cache = settings.repository.cache or Path(tempfile.mkdtemp(prefix="onepixel-"))
    repository: WatchedRepository
    hook = None
    if settings.registered:
        uri = RegistryUri.parse(str(source))
        followed = FollowedRepository(uri, RegistryClient(settings.repository.registry_uri), cache, load)
        if settings.repository.hint_secret is not None:
            hook = MlflowHook(settings.repository.hint_secret, followed.hint)
        repository = followed
    else:
        repository = WatchedRepository(source, load, name=settings.name, default_model=settings.default_model)
    server = Server(repository, settings, hook=hook)
    observers: list[Observer] = []
    if settings.shadow.model is not None:
        client = RegistryClient(settings.repository.registry_uri)
        poll_seconds = settings.repository.poll_seconds
        observers.append(Shadow(settings.shadow, client, cache, server.metrics.registry, poll_seconds))
    if settings.collect.folder is not None:
        observers.append(Collector(settings.collect, server.metrics.registry))
    server.observe(*observers)
    return repository, server
