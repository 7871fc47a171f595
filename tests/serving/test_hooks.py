"""Webhooks are a hint for those who can sign, and nothing to others."""

import time
import urllib.error
import urllib.request

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from serving.errors import InputError
from serving.hooks import MlflowHook
from serving.server import Server
from serving.settings import ServerSettings


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    return path


def headers(body, *, secret="s3cret", at=None):
    stamp = str(int(at or time.time()))
    signature = _generate_hmac_signature(secret, "id", stamp, body)
    return {"X-MLflow-Delivery-Id": "id", "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": signature}


def test_what_mlflow_signs_is_a_hint(secret):
    hints = []
    hook = MlflowHook(secret, lambda: hints.append(1))
    assert hook(headers('{"a": 1}'), b'{"a": 1}') and hints == [1]


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({}, b"x"),
        (headers("x", secret="other"), b"x"),
        (headers("x"), b"y"),
        (headers("x", at=time.time() - 1000), b"x"),
        (headers("x", at=10**300), b"x"),
        (headers("x") | {"X-MLflow-Timestamp": "9" * 5000}, b"x"),
    ],
)
def test_what_is_unsigned_changed_or_old_is_none(secret, given, body):
    hints = []
    assert not MlflowHook(secret, lambda: hints.append(1))(given, body) and not hints


def test_a_secret_that_is_missing_or_empty_is_told(tmp_path):
    with pytest.raises(InputError, match=r"hint_secret: .*none: cannot be read"):
        MlflowHook(tmp_path / "none", lambda: None)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match=r"hint_secret: .*empty is empty"):
        MlflowHook(tmp_path / "empty", lambda: None)


def test_the_server_takes_them_over_http(model, secret):
    hints = []
    settings = ServerSettings(address="127.0.0.1:0", metrics_address="127.0.0.1:0")
    server = Server(model, settings, hook=MlflowHook(secret, lambda: hints.append(1)))
    server.start()

    def post(path, given, body=b"x"):
        request = urllib.request.Request(f"http://{server.metrics_address}{path}", body, given, method="POST")
        try:
            return urllib.request.urlopen(request, timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    assert post("/hooks/mlflow", headers("x")) == 200 and hints == [1]
    assert post("/hooks/mlflow", {}) == 401
    assert post("/hooks/other", headers("x")) == 404
    assert post("/hooks/mlflow", headers("x"), b"x" * 70_000) == 413
    server.stop(grace=1)
    assert hints == [1]
