"""Where a run comes from: the command, the code, and the installed versions."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
"""The repository, where the package was not installed from a wheel."""
LOCK = "requirements.lock"


def run_tags() -> dict[str, str]:
    """Return the command as it was given, the commit, whether the checkout differs from it, and Python's version."""
    tags = {
        "onepixel.command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "onepixel.python": platform.python_version(),
    }
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["onepixel.git_dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def lock_file() -> Path | None:
    """Return the lock of the checkout; None without one."""
    path = CHECKOUT / LOCK
    return path if path.is_file() else None


def installed_versions() -> str:
    """Return what is installed, a line `name==version` each, by name."""
    found = {f"{one.metadata['Name'].lower()}=={one.version}" for one in distributions() if one.metadata["Name"]}
    return "\n".join(sorted(found)) + "\n"


def _git(*arguments: str) -> str:
    if not (CHECKOUT / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
