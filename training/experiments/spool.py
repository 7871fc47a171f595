"""What is to be said to MLflow, in order, on disk until it has been said.

`records.jsonl` holds one record a line and is only ever appended to; `sent` holds the number of those that have been
said. Pictures lie in `files/` until then. A process that is killed at any point leaves at most one torn line, which is
cut off when the spool is opened again.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from serving.files import told_where_full, whole_file

Record = dict[str, Any]


class Spool:
    """Records on their way to MLflow; one process writes, its threads may share it.

    Parameters
    ----------
    folder
        Where they are kept; made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._records = folder.resolve(), folder.resolve() / "records.jsonl"
        self._lock = threading.Lock()
        self._all: list[Record] = []
        if self._records.exists():
            content = self._records.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                os.truncate(self._records, len(whole))
            self._all = [json.loads(line) for line in whole.splitlines()]
        sent = folder / "sent"
        self._sent = min(int(sent.read_text()), len(self._all)) if sent.exists() else 0

    @property
    def records(self) -> list[Record]:
        """All records, those that have been said too."""
        with self._lock:
            return list(self._all)

    @property
    def waiting(self) -> int:
        """How many have not been said."""
        with self._lock:
            return len(self._all) - self._sent

    def add(self, kind: str, **content: Any) -> None:
        """Keep a record, which must be what JSON can hold, whole or not at all.

        Raises
        ------
        InputError
            If no space is left.
        """
        record = {"kind": kind, **content}
        with self._lock:
            with told_where_full(self._records):
                self._folder.mkdir(parents=True, exist_ok=True)
                size = self._records.stat().st_size if self._records.exists() else 0
                try:
                    with self._records.open("a") as file:
                        file.write(json.dumps(record) + "\n")
                except OSError:
                    os.truncate(self._records, size)  # else the next record would stand behind half of this one
                    raise
            self._all.append(record)

    def keep(self, content: bytes, name: str) -> str:
        """Keep a file for a later record; return what the record calls it, see `file`."""
        with self._lock:
            path = self._folder / "files" / str(len(self._all)) / name
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return self.name(path)

    def name(self, path: Path) -> str:
        """Return what a record calls a file: its way from the spool, so that both may be moved together."""
        return os.path.relpath(path.resolve(), self._folder)

    def file(self, name: str) -> Path:
        """Return where the file lies that a record calls so."""
        return self._folder / name

    def next(self) -> Record | None:
        """Return the first record that has not been said; None where all have."""
        with self._lock:
            return self._all[self._sent] if self._sent < len(self._all) else None

    def said(self, record: Record) -> None:
        """Note that the next record has been said, and let go of its file."""
        with self._lock:
            self._sent += 1
            with whole_file(self._folder / "sent") as temporary:
                temporary.write_text(str(self._sent))
        path = self.file(record.get("path", ""))
        if (self._folder / "files") in path.parents:
            path.unlink(missing_ok=True)
