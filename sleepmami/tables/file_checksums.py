"""Checksums of a corpus's files, so that a changed byte is found wherever it lies.

Row checksums (`tables.checksums`) find what changes a value. They say nothing of padding, old
versions or a table's own lists of its files. So each commit is followed by a record below
CORPUS/checksums: size and XXH3-64 of every file that the commit made visible. A record ends in the
XXH3-64 of itself, and records are numbered, so that one that is damaged or lost is noticed, too.

Local corpora only: an object store checks what it stores by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_hexdigest

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.tables import lance_io

FOLDER = "checksums"
TABLES = ("recordings.lance", "segments.lance")
HINT = "_versions/latest_version_hint.json"  # written again by every commit, so no record fits it
HASH_LINE_BYTES = 18  # 16 digits between two line feeds
_RECORD = re.compile(r"\d{8}\.json")
_MANIFEST = re.compile(r"(\d{20})\.manifest")
_NEWEST_FIRST = 2**64 - 1  # Lance names a manifest by this minus the version


class FileSum(NamedTuple):
    """What a file was when it was written; `holds` names the one recording in it, if it is one."""

    size: int
    xxh3: str
    holds: str = ""


def file_sum(path: str | os.PathLike[str], holds: str = "") -> FileSum:
    """Size and XXH3-64 of a local file, read in blocks."""
    with open(path, "rb", buffering=0) as stream:
        digest = hashlib.file_digest(stream, xxh3_64).hexdigest()
        return FileSum(stream.tell(), digest, holds)


def fragment_sums(uri: str, fragments: Sequence[str], holds: str = "") -> dict[str, FileSum]:
    """Checksums of data files just written, by path below the corpus; none in an object store."""
    if not storage.is_local(uri):
        return {}
    base, table = storage.absolute(uri), storage.absolute(uri).rpartition("/")[2]
    return {
        f"{table}/{file}": file_sum(storage.join(base, file), holds)
        for file in lance_io.written_files(fragments)
    }


class FileChecksums:
    """The records of one corpus.

    Attributes:
        sums: by path below the corpus.
        problems: (record, what is wrong) of records that cannot be believed.
    """

    def __init__(self, corpus: str) -> None:
        """Read all records. Of an object store there are none, and none are written."""
        self.local = storage.is_local(corpus)
        self.sums: dict[str, FileSum] = {}
        self.problems: list[tuple[str, str]] = []
        self._next = 0
        self._base = Path(storage.absolute(corpus)) if self.local else Path()
        folder = self._base / FOLDER
        if not self.local or not folder.is_dir():
            return
        for name in sorted(p.name for p in folder.iterdir() if _RECORD.fullmatch(p.name)):
            number = int(name.partition(".")[0])
            if number != self._next:
                lost = f"{self._next:08}.json"
                self.problems.append((f"{FOLDER}/{lost}", "found no such record; expected it"))
            self._next = number + 1
            try:
                self.sums |= decode((folder / name).read_bytes())
            except (TableError, OSError) as error:
                self.problems.append((f"{FOLDER}/{name}", str(error)))

    def require_sound(self) -> None:
        """TableError when a record is damaged or lost."""
        if self.problems:
            name, what = self.problems[0]
            raise TableError(
                f"{self._base / name}: {what}: `sleepmami verify` says what else is damaged; once "
                "you trust the corpus, delete its checksums folder and ingest writes a new one"
            )

    def add(self, sums: Mapping[str, FileSum]) -> None:
        """Record files just committed, and what the tables wrote by themselves since the last."""
        if not self.local:
            return
        fresh = dict(sums)
        fresh |= {name: file_sum(self._base / name) for name in self.history() - set(self.sums)}
        if fresh:
            path = self._base / FOLDER / f"{self._next:08}.json"
            storage.write_bytes(str(path), encode(fresh))
            self._next += 1
            self.sums |= fresh

    def heal(self) -> None:
        """Record what a run was killed before it could; as those files are now."""
        if not self.local:
            return
        for stray in (self._base / FOLDER).glob(".writing-*"):
            stray.unlink()
        for table in TABLES:
            hint = self._base / table / HINT
            if hint.exists() and hint.read_bytes() != self.expected_hint(table):
                storage.write_bytes(str(hint), self.expected_hint(table))
        missing = {name for name in self.in_use() if name not in self.sums}
        self.add({name: file_sum(self._base / name) for name in sorted(missing)})

    def history(self) -> set[str]:
        """Files that commits wrote themselves: manifests, transactions, deletions."""
        folders = [f"{table}/{name}" for table in TABLES for name in lance_io.HISTORY_FOLDERS]
        hints = {f"{table}/{HINT}" for table in TABLES}
        return set(self._files(folders)) - hints

    def in_use(self, tables: Iterable[str] = TABLES) -> set[str]:
        """Data and deletion files of the tables' newest versions."""
        found = set()
        for table in tables:
            uri = str(self._base / table)
            if lance_io.exists(uri):
                found |= {f"{table}/{file}" for file in lance_io.files_in_use(uri)}
        return found

    def stored(self) -> set[str]:
        """All files of the tables, but the hints."""
        folders = [f"{table}/{lance_io.DATA_FOLDER}" for table in TABLES]
        return self.history() | set(self._files(folders))

    def versions(self, table: str) -> dict[int, str]:
        """The manifest of each version, by its path below the corpus."""
        return _versions(self._files([f"{table}/_versions"]))

    def lost_versions(self, table: str) -> set[str]:
        """Recorded manifests that are newer than all that are stored.

        Lance reads such a table without a word as it was before those commits.
        """
        newest = max(self.versions(table), default=0)
        recorded = _versions(name for name in self.sums if name.startswith(f"{table}/"))
        return {name for number, name in recorded.items() if number > newest}

    def expected_hint(self, table: str) -> bytes:
        """What HINT says when the last commit was finished."""
        return f'{{"version":{max(self.versions(table), default=0)}}}'.encode()

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self._base / name

    def _files(self, folders: Iterable[str]) -> Iterable[str]:
        for folder in folders:
            if (self._base / folder).is_dir():
                with os.scandir(self._base / folder) as entries:
                    yield from (f"{folder}/{e.name}" for e in entries if e.is_file())


def _versions(names: Iterable[str]) -> dict[int, str]:
    """Manifests among files, by version."""
    found = ((_MANIFEST.search(name), name) for name in names)
    return {_NEWEST_FIRST - int(match[1]): name for match, name in found if match}


def encode(sums: Mapping[str, FileSum]) -> bytes:
    """A record: one line of JSON, and one with its hash."""
    body = json.dumps({name: list(value) for name, value in sorted(sums.items())}).encode()
    return body + f"\n{xxh3_64_hexdigest(body)}\n".encode()


def decode(record: bytes) -> dict[str, FileSum]:
    """The sums of a record; TableError when a byte of it has changed."""
    body = record[:-HASH_LINE_BYTES]
    if record[-HASH_LINE_BYTES:] != f"\n{xxh3_64_hexdigest(body)}\n".encode():
        raise TableError("found another checksum than its own; expected an unchanged record")
    return {name: FileSum(*value) for name, value in json.loads(body).items()}
