"""Who was made champion, when, why and in whose place: an append-only list, and a compare-and-set for those who race.

It is the registered model `NAME-promotions`, whose versions are the entries. MLflow numbers them atomically and writes
an entry's tags with it, so each entry can say which one was the last when it was decided. It is valid where that is
still so: whoever replays the entries in order comes to the same champion. The aliases follow; one that lags, after a
kill at any point, is mended by whoever comes next.
"""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import mlflow
from mlflow.exceptions import MlflowException

from serving.errors import InputError
from serving.registry import registry_errors
from training.promotion.registry import CHAMPION, PREVIOUS, all_versions, ensure_registered

PROMOTE, ROLLBACK = "promote", "rollback"
_TAGS = ("action", "version", "previous", "expected", "by", "why", "decision")
ATTEMPTS = 12
"""How often something is tried that others, at the same time, make fail: their writes to the same rows."""
Result = TypeVar("Result")


class Superseded(InputError):
    """Another one was made champion since this was decided."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of the champion, or an attempt at one that came too late."""

    number: int
    """Its place, from 1."""
    action: str
    """`promote` or `rollback`."""
    version: str
    """Who became champion."""
    previous: str
    """In whose place; empty for the first."""
    expected: int
    """The last valid entry when it was decided; 0 for none."""
    by: str
    """Who decided it."""
    why: str
    """Why."""
    decision: str
    """A random number that stands for the decision, which may be written more than once."""
    at: float
    """When, in seconds since 1970."""
    valid: bool
    """Whether it was in time."""


class Ledger:
    """The ledger of one registered model.

    Parameters
    ----------
    client
        Of MLflow, whose registry holds it.
    name
        Of the registered model.
    """

    def __init__(self, client: mlflow.MlflowClient, name: str) -> None:
        self._client, self._name = client, name
        self._ledger = f"{name}-promotions"

    def entries(self) -> list[Entry]:
        """Return all entries, the first one first."""
        entries: list[Entry] = []
        head = 0
        for found in sorted(all_versions(self._client, self._ledger), key=lambda one: int(one.version)):
            action, version, previous, expected, by, why, decision = (found.tags.get(tag, "") for tag in _TAGS)
            valid = expected == str(head)
            entries.append(
                Entry(
                    number=int(found.version),
                    action=action,
                    version=version,
                    previous=previous,
                    expected=int(expected) if expected.isdecimal() else -1,
                    by=by,
                    why=why,
                    decision=decision,
                    at=found.creation_timestamp / 1000,
                    valid=valid,
                )
            )
            head = int(found.version) if valid else head
        return entries

    def head(self) -> Entry | None:
        """Return the entry that says who is champion; None where there has been none."""
        return next((entry for entry in reversed(self.entries()) if entry.valid), None)

    def append(self, action: str, version: str, *, expected: Entry | None, by: str, why: str) -> Entry:
        """Make a version the champion, if the head is still the one on which that was decided.

        Parameters
        ----------
        action
            `PROMOTE` or `ROLLBACK`.
        version
            The next champion.
        expected
            The head when it was decided.
        by, why
            For who reads the history.

        Raises
        ------
        Superseded
            If another entry came first. This one stays in the ledger, and does nothing.
        """
        ensure_registered(self._client, self._ledger)
        tags = {
            "action": action,
            "version": version,
            "previous": expected.version if expected else "",
            "expected": str(expected.number if expected else 0),
            "by": by,
            "why": why,
            "decision": uuid.uuid4().hex,
        }
        source = f"models:/{self._name}/{version}"
        self._persist(lambda: self._client.create_model_version(self._ledger, source=source, tags=tags))
        entries = self.entries()
        # The first of them, should an answer have been lost on its way and the entry have been written again.
        mine = next(entry for entry in entries if entry.decision == tags["decision"])
        self.repair()
        if not mine.valid:
            winner = next(entry for entry in reversed(entries) if entry.valid and entry.number < mine.number)
            raise Superseded(
                f"{self._name} version {version}: not made champion, since version {winner.version} was first "
                f"(entry {winner.number}, by {winner.by}: {winner.why}); run the gates against it"
            )
        return mine

    def repair(self) -> None:
        """Set the aliases `champion` and `previous` as the ledger says, until both agree.

        Where somebody has deleted the version of an alias, MLflow took the alias away with it, and it stays away.
        """
        head = None
        while (found := self.head()) != head:
            head = found
            assert head is not None, "entries are never taken away"
            for alias, version in ((CHAMPION, head.version), (PREVIOUS, head.previous)):
                if version:
                    self._persist(partial(self._set, alias, version))

    def _set(self, alias: str, version: str) -> None:
        if self._stands_at(alias) == version:
            return
        try:
            self._client.set_registered_model_alias(self._name, alias, version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    def _stands_at(self, alias: str) -> str | None:
        try:
            return str(self._client.get_model_version_by_alias(self._name, alias).version)
        except MlflowException:
            return None

    def _persist(self, work: Callable[[], Result]) -> Result:
        """Do something until it works, or has failed so often that it will not."""
        for attempt in range(1, ATTEMPTS):
            try:
                return work()
            except MlflowException:
                time.sleep(random.uniform(0.02, 0.1) * attempt)
        with registry_errors(self._client.tracking_uri):
            return work()
