"""`view` as a person runs it: a process, its page, and what can be mended."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli_support import CommandGroup
from serving.server import Server
from serving.view.commands import view

MAIN = """
from serving.cli_support import CommandGroup
from serving.view.commands import view
CommandGroup(commands={"view": view})()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_the_page_is_and_ends_well(server: Server, folder: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-c", MAIN, "view", str(folder), "--server", server.address, "--address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        ready = json.loads(process.stdout.readline())
        assert ready.keys() == {"url", "source", "server", "model_name", "model_version", "model_digest"}
        assert (ready["source"], ready["server"]) == (str(folder), server.address)
        with urllib.request.urlopen(ready["url"] + "next?after=0", timeout=20) as answer:
            assert b'"pair": {"number": ' in answer.read()
        process.send_signal(end)
        assert process.wait(20) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_what_a_user_can_mend_exits_2(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.view.commands.PATIENCE", 0.2)
    main = CommandGroup(commands={"view": view})
    for arguments, message in (
        ((str(folder), "--server", "127.0.0.1:1"), "--server: no server answers at 127.0.0.1:1 within 0.2 s"),
        ((str(folder / "none"), "--server", server.address), "no such folder or file"),
        ((str(folder), "--server", server.address, "--address", server.address), "is the port in use"),
        ((str(folder), "--rate", "0"), "0 is not in the range x>0"),
    ):
        result = CliRunner().invoke(main, ["view", *arguments])
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert result.stdout == ""
