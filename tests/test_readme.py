"""The README's commands are commands: options, settings, make targets and links that it names exist."""

import re
import shlex
from pathlib import Path

import pytest

from training.cli import main
from training.configuration import load_settings

README = Path("README.md").read_text()
COMMANDS = re.findall(r"^    (onepixel .*)$", README, re.MULTILINE)
TARGETS = re.findall(r"\bmake ([a-z-]+)", README)


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line, tmp_path, monkeypatch):
    (tmp_path / "runs" / "camvid").mkdir(parents=True)  # the commands before have made it
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(line.replace("FILE|FOLDER|VIDEO", "frame.png"))[1:]
    context = main.commands[name].make_context(name, arguments)
    if name == "train" and not context.params["config"].endswith(".yaml"):
        load_settings(context.params["config"], context.params["overrides"])


@pytest.mark.parametrize("target", sorted(set(TARGETS)))
def test_make_target_exists(target):
    assert re.search(rf"^{target}:", Path("Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_link_leads_somewhere(link):
    assert link.startswith("http") or Path(link).exists()


def test_there_are_commands():
    assert len(COMMANDS) >= 5 and {"setup", "demo", "test", "test-slow"} <= set(TARGETS)
