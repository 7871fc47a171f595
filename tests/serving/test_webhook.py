"""A real MLflow server posts its webhook to the operations port, and the server follows at once."""

import logging

import pytest

from serving.assembly import open_server
from serving.client import Client
from serving.settings import load_server_settings
from tests.serving.conftest import register_three, until
from tests.training.mlflow_server import MlflowServer
from training.promotion.registry import Registry

EVENT = "model_version_alias.created"


@pytest.fixture
def mlflow_server(tmp_path, monkeypatch):
    """Its webhooks may go to this machine, without TLS, and it knows of new ones at once."""
    monkeypatch.setenv("MLFLOW_WEBHOOK_CACHE_TTL", "0")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    (tmp_path / "mlflow").mkdir()
    server = MlflowServer(tmp_path / "mlflow")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_mlflows_webhook_has_the_server_follow_at_once(mlflow_server, tmp_path, caplog):
    registry = Registry(mlflow_server.uri, "camvid")
    frame = register_three(registry, tmp_path)
    registry.client.set_registered_model_alias("camvid", "champion", "1")
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("a-secret-of-both\n")
    settings = load_server_settings(
        overrides=[
            "model=models:/camvid@champion",
            "address=127.0.0.1:0",
            "metrics_address=127.0.0.1:0",
            "engine.threads=1",
            "repository.poll_seconds=3600",
            f"repository.registry_uri={mlflow_server.uri}",
            f"repository.hint_secret={secret}",
        ]
    )
    with open_server(settings, settings.model) as (repository, server), Client(server.address) as client:
        server.start()
        repository.watch(settings.repository.poll_seconds)
        assert client.segment(frame).model_version == "1"
        hook = f"http://{server.metrics_address}/hooks/mlflow"
        made = registry.client.create_webhook("follow", hook, [EVENT], secret="a-secret-of-both")
        registry.client.set_registered_model_alias("camvid", "champion", "2")
        until(lambda: client.segment(frame).model_version == "2")

        registry.client.delete_webhook(made.webhook_id)
        registry.client.create_webhook("stranger", hook, [EVENT], secret="another-secret")
        with caplog.at_level(logging.WARNING, "serving.hooks"):
            registry.client.set_registered_model_alias("camvid", "champion", "3")
            until(lambda: "without a valid signature" in caplog.text)
        assert client.segment(frame).model_version == "2"
        repository.close()
        server.stop(1)
