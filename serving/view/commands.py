"""The command `view`, mounted by `onepixel` and `python -m serving`. Only click is imported until it runs."""

import json
from functools import partial
from pathlib import Path

import click

from serving.cli_support import DEFAULT_ADDRESS, credential_options, credentials, json_option, stop_signal
from serving.errors import InputError

PATIENCE = 5.0
"""Seconds that `view` waits for a server that may be starting."""


@click.command()
@click.argument("source", metavar="FOLDER|VIDEO|CAMERA")
@click.option("--server", "server_address", default=DEFAULT_ADDRESS, show_default=True, help="HOST:PORT of the server.")
@click.option("--model", "model_name", default="", help="The served model. [default: the server's]")
@click.option(
    "--address", default="127.0.0.1:8080", show_default=True, help="HOST:PORT of the page; loopback by default."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames per second. [default: the video's or the camera's own; 10 for a folder]",
)
@credential_options
@json_option
def view(
    source: str,
    server_address: str,
    model_name: str,
    address: str,
    rate: float | None,
    as_json: bool,
    **files: Path | None,
) -> None:
    """Show frames beside their masks on a web page.

    Until SIGTERM or SIGINT.

    The frames are a folder's images or a video's, over and over, or a camera's: its number, or a URL such as
    rtsp://HOST/PATH. They are streamed as a camera's client streams them, so that the page shows what one gets, with
    classes, frames per second, drops and timings. When ready, one line on standard output says where the page is;
    with port 0, which port it is.
    """
    import logging

    from serving.client import Client, ServerError
    from serving.view.feed import Feed
    from serving.view.sources import open_source
    from serving.view.web import ViewServer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    opened = open_source(source)
    connect = partial(Client, server_address, model_name=model_name, credentials=credentials(**files))
    with connect() as client:
        try:
            client.wait_ready(PATIENCE)
            info = client.model_info()
        except ServerError as error:
            raise InputError(f"--server: {error.message}") from error
    feed = Feed(opened, server_address, rate=rate, connect=connect)
    server = ViewServer(feed, address)
    if not server.loopback:
        logging.warning("%s: whoever reaches it sees the frames", server.address)
    stop = stop_signal()
    feed.start()
    server.start()
    ready = {
        "url": server.url,
        "source": opened.name,
        "server": server_address,
        "model_name": info.name,
        "model_version": info.version,
        "model_digest": info.digest,
    }
    text = f"{opened.name} through {info.name} version {info.version} of {server_address}: open {server.url}"
    click.echo(json.dumps(ready) if as_json else text)
    stop.wait()
    server.stop()
    feed.stop()
