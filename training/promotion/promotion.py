"""Who is champion, and how that changes: register, gate, promote, roll back. Each step can be repeated."""

import getpass
import os
import tempfile
from pathlib import Path
from typing import Any

from serving.errors import InputError
from training.promotion.gates import AGAINST_TAG, GATE_TAGS, GATES_TAG, PASSED, GateReport, run_gates
from training.promotion.ledger import PROMOTE, ROLLBACK, Entry, Ledger
from training.promotion.registry import Downloaded, Registry
from training.settings import Settings


class Refused(Exception):
    """A gate stands between a version and the champion's place."""


class Promotion:
    """The registered model of one name: its versions and its ledger.

    Parameters
    ----------
    uri
        Of MLflow.
    name
        Of the registered model.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.registry = Registry(uri, name)
        self.ledger = Ledger(self.registry.client, name)
        if self.ledger.head() is not None:
            self.ledger.repair()

    def gate(self, version: str, settings: Settings) -> GateReport:
        """Ask the gates about a version, against who is champion now, and record what they say on it.

        What was said earlier goes first and the verdict comes last, so that a kill on the way leaves none.
        """
        head = self.ledger.head()
        with tempfile.TemporaryDirectory() as folder:
            candidate = self.registry.download(version, Path(folder))
            champion = self._champion(head, version, Path(folder))
            report = run_gates(candidate, champion, settings, self.registry.has_run)
        earlier = [tag for tag in candidate.version.tags if tag.startswith(GATE_TAGS)]
        self.registry.record(version, {GATES_TAG: "none"})
        self.registry.forget(version, earlier)
        self.registry.record(version, report.tags())
        return report

    def promote(self, version: str, *, why: str, without_gates: bool = False) -> Entry:
        """Make a version the champion; the present champion stays it.

        Raises
        ------
        Refused
            If its gates did not pass, or were asked against another champion.
        Superseded
            If another version was first.
        InputError
            If there is no such version.
        """
        found, head = self.registry.version(version), self.ledger.head()
        if head is not None and head.version == version:
            return head
        if not without_gates:
            _check_gates(found.tags, version, head)
        return self._append(PROMOTE, version, head, why + (" (without gates)" if without_gates else ""))

    def rollback(self, *, why: str, to: str | None = None) -> Entry:
        """Make the champion before this one, or the version `to` that was champion once, the champion again.

        Raises
        ------
        InputError
            If there was none before, `to` never was, or somebody has deleted it.
        Superseded
            If another change was first.
        """
        head = self.ledger.head()
        if head is None:
            raise InputError(f"{self.registry.name}: there is no champion, so nothing to go back to")
        were = [entry.version for entry in self.ledger.entries() if entry.valid]
        version = to or head.previous
        if not version:
            raise InputError(
                f"{self.registry.name}: version {head.version} is the first champion; there is none before"
            )
        if version not in were:
            raise InputError(f"--to {version}: was never champion of {self.registry.name}; {', '.join(were)} were")
        self.registry.version(version)  # it is still there
        return head if version == head.version else self._append(ROLLBACK, version, head, why)

    def history(self) -> dict[str, Any]:
        """Return all versions and all entries of the ledger, and who is champion.

        Raises
        ------
        InputError
            If nothing was ever registered under this name.
        """
        head, versions = self.ledger.head(), self.registry.versions()
        if head is None and not versions:
            raise InputError(f"{self.registry.name}: nothing is registered under this name at {self.registry.uri}")
        return {
            "name": self.registry.name,
            "champion": head.version if head else None,
            "candidate": self.registry.alias("candidate"),
            "entries": [vars(entry) for entry in self.ledger.entries()],
            "versions": [
                {"version": one.version, "digest": one.digest, "gates": one.tags.get(GATES_TAG, "none")}
                for one in versions
            ],
        }

    def _append(self, action: str, version: str, head: Entry | None, why: str) -> Entry:
        return self.ledger.append(action, version, expected=head, by=_user(), why=why)

    def _champion(self, head: Entry | None, version: str, folder: Path) -> Downloaded | None:
        if head is None or head.version == version:
            return None
        return self.registry.download(head.version, folder)


def _user() -> str:
    """Return who runs this; a container's user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _check_gates(tags: dict[str, str], version: str, head: Entry | None) -> None:
    against = head.version if head else ""
    verdict = tags.get(GATES_TAG, "none")
    if verdict != PASSED:
        said = "no gate has been asked" if verdict == "none" else "a gate refused it"
        raise Refused(f"version {version}: {said}; see `onepixel gates`")
    if tags.get(AGAINST_TAG, "") != against:
        asked = tags.get(AGAINST_TAG) or "none"
        raise Refused(
            f"version {version}: its gates were asked against version {asked}, the champion is {against or 'none'}; "
            "run `onepixel gates` again"
        )
