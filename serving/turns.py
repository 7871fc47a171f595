"""Start-time fair queueing (Goyal, Vin, Cheng 1996): clients take turns by what their turns cost.

Each client has a line of its own. The line whose turn comes first in virtual time is served; its next turn comes after
what this one cost. A line that was empty begins at the present virtual time, whatever it missed, so that nobody saves
turns up.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Work = TypeVar("Work")

EQUAL = 0.5
"""Turns that are no farther apart than this share of a turn's cost are equal, and the oldest work is first. Costs are
measured: where the least noise told, one of several alike clients would go twice before another."""
SPARE_LINES = 64
"""Lines of clients that have left which are remembered at least; of others the debts are forgiven."""


@dataclass
class _Line(Generic[Work]):
    turn: float
    works: deque[tuple[int, Work]] = field(default_factory=deque)


class Turns(Generic[Work]):
    """What waits, in lines by client; not safe to use from several threads."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Work]] = {}
        self._size = self._added = 0
        self._prune_at = SPARE_LINES
        self._now = 0.0  # the virtual time: when the turn that was served last began
        self._cost = 0.0  # of that turn

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Work]:
        return (work for line in self._lines.values() for _, work in line.works)

    def add(self, client: str, work: Work) -> None:
        """Put a work at the end of its client's line."""
        self._line(client).works.append((self._added, work))
        self._added += 1
        self._size += 1

    def remove(self, client: str, work: Work) -> bool:
        """Take a work out of its client's line; return whether it was there."""
        line = self._lines.get(client)
        for entry in line.works if line else ():
            if entry[1] is work:
                line.works.remove(entry)  # type: ignore[union-attr]
                self._size -= 1
                return True
        return False

    def first(self) -> tuple[str, Work] | None:
        """Return whose turn it is and the work, which stays; None where nothing waits. Among equals, the oldest."""
        lines = [(client, line) for client, line in self._lines.items() if line.works]
        if not lines:
            return None
        latest = min(line.turn for _, line in lines) + EQUAL * self._cost
        client, line = min(
            (entry for entry in lines if entry[1].turn <= latest), key=lambda entry: entry[1].works[0][0]
        )
        return client, line.works[0][1]

    def serve(self, client: str, cost: float) -> None:
        """Count a turn of a client that begins now, and what it costs in virtual seconds."""
        line = self._line(client)
        self._now, self._cost = line.turn, cost
        line.turn += cost

    def _line(self, client: str) -> _Line[Work]:
        line = self._lines.get(client)
        if line is None:
            if len(self._lines) >= self._prune_at:
                self._lines = {name: kept for name, kept in self._lines.items() if kept.works}
                self._prune_at = 2 * len(self._lines) + SPARE_LINES
            line = self._lines[client] = _Line(self._now)
        if not line.works:
            line.turn = max(line.turn, self._now)
        return line
