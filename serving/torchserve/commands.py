"""The commands `package` and `torchserve`; imports nothing heavy."""

import json
from pathlib import Path

import click

from serving.cli_support import json_option, stop_signal


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The archive. [default: NAME.mar in the store]"
)
@click.option("--name", help="What TorchServe calls it. [default: by the path]")
@click.option("--version", help="Its version there. [default: by the path]")
@json_option
def package(model: Path, out: Path | None, name: str | None, version: str | None, as_json: bool) -> None:
    """Write MODEL as an archive for TorchServe.

    MODEL is an exported ONNX file.
    """
    from serving.torchserve.package import package as write

    archive = write(model, out, name=name, version=version)
    click.echo(
        json.dumps({"archive": str(archive)}) if as_json else f"{archive}  {archive.stat().st_size / 2**20:.1f} MiB"
    )


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=7070, show_default=True, help="0 takes a free one.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that answer.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Frames of an inference at most."
)
@json_option
def torchserve(
    archive: Path, host: str, grpc_port: int, http_port: int, workers: int, batch: int, as_json: bool
) -> None:
    """Serve ARCHIVE with TorchServe.

    Until SIGTERM or SIGINT; needs Java 17 and the extra `torchserve`.

    When a worker answers, one line on standard output says where, and in which file the token is that calls need.
    """
    from serving.torchserve.process import TorchServe

    stop = stop_signal()
    server = TorchServe(
        archive, grpc_port=grpc_port, http_port=http_port, host=host, workers=workers, batch=batch, stop=stop
    )
    try:
        if stop.is_set():
            return
        key = server.folder / "key_file.json"
        report = {"grpc": server.grpc_address, "http": server.http_address, "model_name": server.name}
        report |= {"model_version": server.version, "key_file": str(key)}
        if as_json:
            click.echo(json.dumps(report))
        else:
            click.echo(
                f"serving {server.name} version {server.version} at {server.grpc_address}, {server.http_address}"
            )
            click.echo(f"token: 'inference' in {key}")
        while not stop.wait(1) and server.is_running():
            pass
        if not stop.is_set():
            click.echo(f"error: TorchServe ended by itself:\n{server.log_tail()}", err=True)
            raise SystemExit(1)
    finally:
        server.stop()


COMMANDS = (package, torchserve)
