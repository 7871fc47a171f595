"""MLflow's server with its database's password from a file: `python -m training.tracking_server`, as compose.yaml does.

MLflow takes the database's URI from its command line, which others can read, or from its environment: that of the
process that becomes the server is the one place where the password stands.
"""

import os
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import click

from serving.errors import InputError


def with_password(uri: str, password: str) -> str:
    """Return a database's URI with a password for its user."""
    parts = urlsplit(uri)
    if not parts.username:
        raise InputError(f"--database: '{uri}' names no user; it should be postgresql+psycopg2://USER@HOST/DATABASE")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}"))


@click.command()
@click.option("--database", required=True, help="The database's URI, without the password.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--artifacts", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def main(database: str, password_file: Path, artifacts: Path, host: str, port: int) -> None:
    """Become an MLflow server that hands out the artefacts itself."""
    uri = with_password(database, password_file.read_text().strip())
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "2"]
    command += ["--serve-artifacts", "--artifacts-destination", str(artifacts.resolve())]
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    main()
