"""TLS, mutual TLS and tokens, with certificates that openssl makes for the test."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import security as security_module
from serving.__main__ import main
from serving.client import Client, Credentials, ServerError
from serving.errors import InputError
from serving.frames import Pixels, encode_png
from serving.model import Model
from serving.security import Clients, Tokens
from serving.server import EMBEDDED, Server
from serving.settings import SecuritySettings

TOKENS = "# cameras\nleft  left-token-0123456789  # front\n\nright right-token-0123456789\n"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def make_certificate(
    folder: Path, name: str, subject: str = "localhost", days: tuple[str, str] | None = None
) -> tuple[Path, Path]:
    """Make a self-signed certificate, from and to the given times, and its key."""
    certificate, key, request = (folder / f"{name}.{suffix}" for suffix in ("pem", "key", "csr"))
    names = f"DNS:{subject}" + (",IP:127.0.0.1" if subject == "localhost" else "")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
    new += ["-subj", f"/CN={subject}", "-addext", f"subjectAltName={names}"]
    if days is None:
        subprocess.run([*new, "-x509", "-days", "2", "-out", certificate], check=True, capture_output=True)
        return certificate, key
    subprocess.run([*new, "-out", request], check=True, capture_output=True)
    (folder / "database").touch()
    (folder / "authority").write_text(
        "[ca]\ndefault_ca = own\n[own]\npolicy = any\ncopy_extensions = copy\ndefault_md = sha256\nrand_serial = yes\n"
        f"database = {folder}/database\nnew_certs_dir = {folder}\n[any]\ncommonName = supplied\n"
    )
    sign = ["openssl", "ca", "-batch", "-config", folder / "authority", "-selfsign", "-keyfile", key, "-in", request]
    sign += ["-startdate", days[0], "-enddate", days[1], "-notext", "-out", certificate]
    subprocess.run(sign, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def start(model: Model) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(**security: Path) -> Server:
        server = Server(model, EMBEDDED.model_copy(update={"security": SecuritySettings(**security)}))
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop(0)


def ask(server: Server, credentials: grpc.ChannelCredentials | None = None, *metadata: tuple[str, str]) -> str:
    """Return the name of the model, or of the status."""
    address = f"localhost:{server.port}"
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with channel:
        try:
            stub = pb_grpc.SegmentationServiceStub(channel)
            return stub.GetModelInfo(pb.GetModelInfoRequest(), metadata=metadata, timeout=5).model.name
        except grpc.RpcError as error:
            return error.code().name


@needs_openssl
def test_tls_and_a_certificate_that_is_renewed(start: Callable[..., Server], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    server = start(certificate=certificate, private_key=key)
    old = grpc.ssl_channel_credentials(certificate.read_bytes())
    assert ask(server, old) == "tiny"
    assert ask(server) == "UNAVAILABLE"
    renewed, renewed_key = make_certificate(tmp_path, "renewed")
    renewed.replace(certificate)
    assert ask(server, old) == "tiny"  # until its key is there, too
    renewed_key.replace(key)
    assert ask(server, grpc.ssl_channel_credentials(certificate.read_bytes())) == "tiny"
    assert ask(server, old) == "UNAVAILABLE"


@needs_openssl
def test_mutual_tls_lets_in_who_has_a_known_certificate(start: Callable[..., Server], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    camera, camera_key = make_certificate(tmp_path, "camera", "camera-7")
    server = start(certificate=certificate, private_key=key, client_authorities=camera)
    roots = certificate.read_bytes()
    assert ask(server, grpc.ssl_channel_credentials(roots, camera_key.read_bytes(), camera.read_bytes())) == "tiny"
    assert ask(server, grpc.ssl_channel_credentials(roots)) == "UNAVAILABLE"
    stranger, stranger_key = make_certificate(tmp_path, "stranger")
    with_other = grpc.ssl_channel_credentials(roots, stranger_key.read_bytes(), stranger.read_bytes())
    assert ask(server, with_other) == "UNAVAILABLE"


def test_tokens_are_needed_by_all_but_probes(
    start: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    server = start(tokens=tokens)
    assert ask(server, None, ("authorization", "Bearer left-token-0123456789")) == "tiny"
    for wrong in ((), (("authorization", "Bearer left-token-012345678"),), (("authorization", "left"),)):
        assert ask(server, None, *wrong, ("x-request-id", "mine")) == "UNAUTHENTICATED"
    assert caplog.text.count("refused: request 'mine' of ipv") == 3
    with grpc.insecure_channel(server.address) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            list(pb_grpc.SegmentationServiceStub(channel).StreamSegment(iter([pb.StreamSegmentRequest()])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@needs_openssl
def test_the_client_and_the_command_bring_what_the_server_asks_for(
    start: Callable[..., Server], frame: Pixels, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    own, own_key = make_certificate(tmp_path, "camera", "camera-7")
    (tmp_path / "tokens").write_text(TOKENS)
    (tmp_path / "token").write_text("left-token-0123456789\n")
    server = start(certificate=certificate, private_key=key, client_authorities=own, tokens=tmp_path / "tokens")
    address = f"localhost:{server.port}"
    known = Credentials(certificate, own, own_key, "left-token-0123456789")
    assert "left-token" not in repr(known)
    with Client(address, credentials=known) as client:
        assert client.segment(frame).model_name == "tiny"
        assert [outcome.error for outcome in client.stream([frame])] == [None]
    with Client(address, credentials=replace(known, token="")) as client, pytest.raises(ServerError) as caught:
        client.segment(frame)
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    (tmp_path / "frame.png").write_bytes(encode_png(frame))
    files = {"authorities": certificate, "certificate": own, "private-key": own_key, "token-file": tmp_path / "token"}
    options = [str(word) for name, path in files.items() for word in (f"--{name}", path)]
    command = ["segment", str(tmp_path / "frame.png"), "--server", address, "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, command + options).exit_code == 0
    health = CliRunner().invoke(main, ["health", address, *options])
    assert (health.exit_code, health.output) == (0, "SERVING\n")
    health = CliRunner().invoke(main, ["health", address])
    assert health.exit_code == 1 and "it may encrypt" in health.output
    result = CliRunner().invoke(main, command + options[:4])
    assert result.exit_code == 2 and "certificate and private_key belong together" in result.output


@needs_openssl
def test_files_that_hold_something_else_are_told_by_name_on_both_sides(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    _, other = make_certificate(tmp_path, "other")
    encrypted, text = tmp_path / "encrypted.key", tmp_path / "notes.txt"
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", encrypted]
    subprocess.run(command, check=True, capture_output=True)
    text.write_text("no certificate\n")
    for pair, message in (
        ((certificate, other), rf"{other}: is not the key of {certificate}"),
        ((certificate, encrypted), rf"{encrypted}: is encrypted; write it without a password"),
        ((certificate, text), rf"{text}: should be a PEM file that holds 'PRIVATE KEY'"),
        ((text, key), rf"{text}: should be a PEM file that holds 'BEGIN CERTIFICATE'"),
    ):
        with pytest.raises(InputError, match=message):
            start(certificate=pair[0], private_key=pair[1])
        with pytest.raises(InputError, match=message):
            Client("localhost:1", credentials=Credentials(certificate, *pair))
    for make in (
        lambda: start(certificate=certificate, private_key=key, client_authorities=text),
        lambda: Client("localhost:1", credentials=Credentials(str(text))),
    ):
        with pytest.raises(InputError, match=rf"{text}: should be a PEM file of certificates"):
            make()


@needs_openssl
def test_why_a_server_cannot_be_reached_is_told(start: Callable[..., Server], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    other, _ = make_certificate(tmp_path, "other")
    elsewhere, elsewhere_key = make_certificate(tmp_path, "elsewhere", "elsewhere.example")
    old, old_key = make_certificate(tmp_path, "old", days=("20200101000000Z", "20200102000000Z"))
    expired = start(certificate=old, private_key=old_key)
    plain, encrypted = start(), start(certificate=certificate, private_key=key)
    mutual = start(certificate=certificate, private_key=key, client_authorities=other)
    renamed = start(certificate=elsewhere, private_key=elsewhere_key)
    for server, authorities, reason in (
        (plain, certificate, "it does not encrypt"),
        (encrypted, None, "it may encrypt"),
        (encrypted, other, "do not vouch for its certificate"),
        (expired, old, "its certificate has expired"),
        (mutual, certificate, "ask for a certificate, or not know the one that it got"),
        (renamed, elsewhere, "for another name"),
    ):
        credentials = Credentials(authorities)
        with (
            Client(server.address, credentials=credentials) as client,
            pytest.raises(ServerError, match=reason),
        ):
            client.wait_ready(0.3)
        with (
            Client(server.address, credentials=credentials) as client,
            pytest.raises(ServerError, match=rf"UNAVAILABLE: .*{reason}.* \(failed to connect"),
        ):
            client.model_info()


def test_who_sends_no_message_holds_no_thread(start: Callable[..., Server], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    server = start(tokens=tokens)
    end = threading.Event()

    def silence() -> Iterator[pb.StreamSegmentRequest]:
        end.wait(20)
        yield from ()

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(server.address, options=options) for _ in range(4)]
    calls = [
        channel.stream_unary("/onepixel.v1.SegmentationService/Segment").future(silence())
        for channel in channels
        for _ in range(40)
    ]
    assert {call.exception(10).code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
    assert ask(server, None, ("authorization", "Bearer left-token-0123456789")) == "tiny"
    end.set()
    for channel in channels:
        channel.close()


def test_a_stream_ends_when_its_token_is_taken_out(
    start: Callable[..., Server], frame: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security_module, "LOOK_SECONDS", 0.0)
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    server = start(tokens=tokens)
    answered = threading.Event()

    def frames() -> Iterator[Pixels]:
        yield frame
        assert answered.wait(10)
        tokens.with_suffix(".new").write_text("right right-token-0123456789\n")
        tokens.with_suffix(".new").replace(tokens)
        yield frame

    with Client(server.address, credentials=Credentials(token="left-token-0123456789")) as client:
        outcomes = client.stream(frames())
        assert next(outcomes).segmentation is not None
        answered.set()
        with pytest.raises(ServerError, match="the token is not known any more") as caught:
            next(outcomes)
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    with Client(server.address, credentials=Credentials(token="right-token-0123456789")) as client:
        assert [outcome.error for outcome in client.stream(frames())] == [None, None]


def test_two_tokens_are_none(start: Callable[..., Server], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    both = [("authorization", f"Bearer {name}-token-0123456789") for name in ("left", "right")]
    assert ask(start(tokens=tokens), None, *both) == "UNAUTHENTICATED"


def test_a_token_names_its_client(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    tokens = Tokens(path)
    assert tokens.name_of("Bearer right-token-0123456789") == "right"
    assert tokens.name_of("bearer left-token-0123456789") == "left"
    assert tokens.name_of("Basic left-token-0123456789") is None
    assert tokens.name_of("") is None


def test_tokens_that_change_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(security_module, "LOOK_SECONDS", 0.0)
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    tokens = Tokens(path)
    for content, names in (
        ("new brand-new-token-123456\n", ("new", None)),
        ("new short\n", ("new", None)),  # which is logged, and nobody is locked out
        (TOKENS, (None, "left")),
        ("# nobody any more\n", (None, None)),
        (f"{TOKENS}{TOKENS}", (None, "left")),
    ):
        path.with_suffix(".new").write_text(content)
        path.with_suffix(".new").replace(path)
        known = (tokens.name_of("Bearer brand-new-token-123456"), tokens.name_of("Bearer left-token-0123456789"))
        assert known == names
    assert "the tokens stay as they were" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nobody\n", "no token; a line is NAME TOKEN"),
        ("left one-token-0123456789\nright one-token-0123456789\n", "line 2: the token of right is that of left, too"),
        ("left short\n", "line 1 should be NAME TOKEN, of 16 characters or more"),
        ("\nleft right-token-0123456789 more\n", "line 2 should be NAME TOKEN"),
    ],
)
def test_a_bad_tokens_file_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(InputError, match=message):
        Tokens(tmp_path / "tokens")


def test_a_token_is_looked_at_once_a_call(
    start: Callable[..., Server], frame: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text(TOKENS)
    looks: list[str] = []
    name_of = Tokens.name_of
    monkeypatch.setattr(Tokens, "name_of", lambda self, given: looks.append(given) or name_of(self, given))
    clients: list[str] = []
    of = Clients.of
    monkeypatch.setattr(Clients, "of", lambda self, context: clients.append(of(self, context)) or clients[-1])
    server = start(tokens=tmp_path / "tokens")
    for name in ("left", "right"):
        with Client(server.address, credentials=Credentials(token=f"{name}-token-0123456789")) as client:
            client.segment(frame)
    assert (len(looks), clients) == (2, ["token left", "token right"])


def test_a_secret_that_everybody_may_read_is_told_and_a_pipe_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    path.chmod(0o600)
    Tokens(path)
    assert not caplog.records
    path.chmod(0o644)
    Tokens(path)
    assert caplog.records[0].getMessage() == f"{path}: everybody on this machine may read it; chmod o-r"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: cannot be read: it is no regular file"):
        Tokens(tmp_path / "pipe")


def test_a_token_in_the_clear_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("127.0.0.1:1", "torchserve+http://localhost:1", "camera-server:1", "torchserve+http://camera:1"):
        Client(address, model_name="camvid", credentials=Credentials(token="left-token-0123456789")).close()
    assert [record.getMessage() for record in caplog.records] == [
        f"{address}: the token goes there in the clear; authorities encrypt"
        for address in ("camera-server:1", "camera:1")
    ]


def test_a_missing_file_is_a_clear_error(model: Model, tmp_path: Path) -> None:
    security = SecuritySettings(certificate=tmp_path / "none.pem", private_key=tmp_path / "none.key")
    with pytest.raises(InputError, match=r"none\.pem: cannot be read"):
        Server(model, EMBEDDED.model_copy(update={"security": security}))
