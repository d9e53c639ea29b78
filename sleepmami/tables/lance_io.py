"""The only door to Lance: write fragments, commit them at once, read, delete.

Writing is in two steps. `write_fragments` puts data files beside the table, where no reader sees
them, and may run in many processes; `commit` makes them visible, all or none. A process killed in
between leaves the table as it was. Commits from several writers do not lose rows: appends are
rebased on each other, and of two writers creating the same table one creates and one appends.

Lance keeps no checksum of its data and does not flush to disk, see docs/data.md. It is not
fork-safe: start worker processes by spawn.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata
from lance.fragment import write_fragments as lance_write_fragments

from sleepmami import storage
from sleepmami.errors import TableError

IDENTITY_KEYS = ("schema_name", "schema_version")
DATA_FOLDER = "data"
HISTORY_FOLDERS = ("_versions", "_transactions", "_deletions")  # of what a commit writes itself
METADATA_KEYS = (*IDENTITY_KEYS, "config", "code_version", "source_versions")


def write_fragments(table: pa.Table, uri: str, schema: pa.Schema) -> list[str]:
    """Write a table's rows as one fragment that is not visible yet.

    Args:
        table: columns named and typed as in `schema`, in any order.
        uri: the table; need not exist.
        schema: one of `tables.schemas`.

    Returns:
        What `commit` takes: one JSON text per fragment, none for a table without rows.

    Raises:
        TableError: a column is missing, unknown, of another type, or null where it may not be.
    """
    rows = _conform(table, uri, schema)
    if not rows.num_rows:
        return []
    place = storage.absolute(uri)
    # "create" only spares Lance's warning that the table does not exist; neither mode commits
    modes = ["append"] if exists(uri) else ["create", "append"]
    for mode in modes:
        try:
            fragments = lance_write_fragments(
                rows,
                place,
                schema=schema,
                mode=mode,
                max_rows_per_file=rows.num_rows,
                # a table in one piece makes whole pages, and need not be gathered in a copy
                data_cache_bytes=1 if rows.column(0).num_chunks == 1 else None,
            )
        except OSError as error:
            if mode == "create" and exists(uri):  # another writer was first
                continue
            raise _failure(uri, "could not be written", error) from error
        return [json.dumps(fragment.to_json()) for fragment in fragments]
    raise AssertionError("unreachable: append returns or raises")


def commit(
    uri: str, fragments: Sequence[str], schema: pa.Schema, *, metadata: Mapping[str, str]
) -> int:
    """Make fragments visible: create the table with them, or append them to it.

    Args:
        uri: the table.
        fragments: from `write_fragments` with the same `schema`; each may be committed once.
        schema: one of `tables.schemas`; a table of another name or version is refused.
        metadata: provenance (`tables.schemas.provenance`), stored when the table is created.
            Appending leaves the table's metadata as it is.

    Returns:
        The table's new version.

    Raises:
        TableError: the table there has another schema, or the commit failed.
    """
    parts = [FragmentMetadata.from_json(text) for text in fragments]
    place = storage.absolute(uri)
    if not exists(uri):
        operation = lance.LanceOperation.Overwrite(_with_metadata(schema, metadata), parts)
        try:
            # max_retries=0 is what makes this a create: with retries, a second writer's Overwrite
            # replaces the first one's rows without a word
            return int(lance.LanceDataset.commit(place, operation, max_retries=0).version)
        except OSError as error:
            if not exists(uri):
                raise _failure(uri, "could not be created", error) from error
    dataset = _open(uri)
    _require_schema(uri, dataset.schema, schema)
    if not parts:
        return int(dataset.version)
    try:
        appended = lance.LanceDataset.commit(
            place, lance.LanceOperation.Append(parts), read_version=dataset.version
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _failure(uri, "could not be appended to", error) from error
    return int(appended.version)


def read_table(
    uri: str,
    columns: Sequence[str] | None = None,
    filter: str | None = None,
    *,
    schema: pa.Schema | tuple[pa.Schema, ...] | None = None,
    version: int | None = None,
) -> pa.Table:
    """Rows in the order they were committed.

    Args:
        uri: the table.
        columns: columns to read; the others are not touched on disk.
        filter: an SQL condition, see `is_one_of`.
        schema: refuse a table that is not of this name and version, or of none of these.
        version: of the commit to read; None is the newest.

    Raises:
        TableError: no such table, version, column or schema, or data that cannot be read.
    """
    dataset = _open(uri, version)
    if schema is not None:
        _require_schema(uri, dataset.schema, schema)
    try:
        return dataset.to_table(columns=None if columns is None else list(columns), filter=filter)
    except (OSError, ValueError) as error:
        raise _failure(uri, "could not be read", error) from error


def take_rows(
    uri: str,
    rows: Sequence[int],
    columns: Sequence[str] | None = None,
    *,
    version: int | None = None,
) -> pa.Table:
    """Rows by their position in the order `read_table` gives, in the order asked for.

    Args:
        uri: the table.
        rows: positions.
        columns: columns to read; the others are not touched on disk.
        version: the commit that positions refer to; None is the newest.

    Raises:
        TableError: no such table, version, column or row.
    """
    return OpenTable(uri, version).take(rows, columns)


class OpenTable:
    """One version of a table that is looked up once and read many times, also by several threads.

    Args:
        uri: the table.
        version: of the commit to read; None is the newest.

    Raises:
        TableError: no such table or version.
    """

    def __init__(self, uri: str, version: int | None = None) -> None:
        self._uri = uri
        self._dataset = _open(uri, version)

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """As `take_rows`; ascending rows cost a fifth of what the same rows cost in any order."""
        try:
            return self._dataset.take(list(rows), None if columns is None else list(columns))
        except (OSError, ValueError, IndexError) as error:
            raise _failure(self._uri, "has no such rows", error) from error


def iter_rows(
    uri: str,
    columns: Sequence[str] | None = None,
    *,
    batch_rows: int,
    without: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Rows in the order they were committed, a few at a time.

    Args:
        uri: the table.
        columns: columns to read; the others are not touched on disk.
        batch_rows: at most this many at once.
        without: files (`files_in_use`) that are not to be read, nor the rows that need them.

    Raises:
        TableError: no such table, or data that cannot be read.
    """
    dataset = _open(uri)
    names = None if columns is None else list(columns)
    for fragment in dataset.get_fragments():
        if set(without) & set(_fragment_files(fragment)):
            continue
        try:
            for batch in fragment.to_batches(columns=names, batch_size=batch_rows):
                yield pa.Table.from_batches([batch])
        except (OSError, ValueError) as error:
            raise _failure(uri, "could not be read", error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # what Lance says of bytes it never wrote
                raise
            raise _failure(uri, "could not be read", Exception(error)) from None


def files_in_use(uri: str) -> list[str]:
    """Data and deletion files of the newest version, by their paths below the table."""
    return [file for part in _open(uri).get_fragments() for file in _fragment_files(part)]


def written_files(fragments: Sequence[str]) -> list[str]:
    """Data files of fragments from `write_fragments`, by their paths below the table."""
    files = [file for text in fragments for file in json.loads(text)["files"]]
    return [f"{DATA_FOLDER}/{file['path']}" for file in files]


def discard(uri: str, fragments: Sequence[str]) -> None:
    """Delete what `write_fragments` wrote; for fragments that will never be committed."""
    for file in written_files(fragments):
        storage.delete(storage.join(uri, file))


def was_compacted(uri: str, versions: Iterable[int]) -> bool:
    """Whether one of some versions moved rows to other files (Lance's compaction)."""
    dataset = _open(uri)
    for number in versions:
        try:
            operation = dataset.read_transaction(number).operation
        except (OSError, ValueError, RuntimeError):  # cleaned up since
            continue
        if isinstance(operation, lance.LanceOperation.Rewrite):
            return True
    return False


def count_rows(uri: str, filter: str | None = None) -> int:
    """Number of rows, or of those a condition holds for."""
    try:
        return int(_open(uri).count_rows(filter))
    except (OSError, ValueError) as error:
        raise _failure(uri, "could not be counted", error) from error


def metadata(uri: str) -> dict[str, str]:
    """METADATA_KEYS as they were stored when the table was created."""
    stored = _open(uri).schema.metadata or {}
    return {key.decode(): value.decode() for key, value in stored.items()}


def exists(uri: str) -> bool:
    """Whether a committed table is there; data files alone are not one."""
    try:
        _open(uri)
    except _MissingTableError:
        return False
    return True


def version(uri: str) -> int:
    """The number of the newest commit."""
    return int(_open(uri).version)


def delete_rows(uri: str, filter: str) -> int:
    """Delete the rows a condition holds for; returns how many that were.

    The bytes stay on disk in older versions of the table, see docs/data.md.
    """
    try:
        return int(_open(uri).delete(filter)["num_deleted_rows"])
    except (OSError, ValueError, RuntimeError) as error:
        raise _failure(uri, "could not be deleted from", error) from error


def delete_recordings(uri: str, recording_ids: Iterable[str]) -> int:
    """Delete all rows of some recordings; returns how many rows that were."""
    wanted = list(recording_ids)
    return delete_rows(uri, is_one_of("recording_id", wanted)) if wanted else 0


def is_one_of(column: str, values: Iterable[str]) -> str:
    """The condition that a text column holds one of some values, whatever characters they have."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})" if quoted else "false"


def _fragment_files(fragment: Any) -> list[str]:  # Any: Lance's own, untyped
    data = [f"{DATA_FOLDER}/{file.path}" for file in fragment.data_files()]
    deletions = fragment.deletion_file()
    return [*data, deletions] if deletions else data


class _MissingTableError(TableError):
    """There is no table at all, as opposed to one that cannot be opened."""


def _open(uri: str, version: int | None = None) -> lance.LanceDataset:
    try:
        return lance.dataset(storage.absolute(uri), version=version)
    except ValueError as error:
        if "not found" in str(error).lower():
            raise _MissingTableError(f"{uri}: found no table; expected a Lance table") from None
        raise _failure(uri, "could not be opened", error) from error
    except OSError as error:
        raise _failure(uri, "could not be opened", error) from error


def _failure(uri: str, what: str, error: Exception) -> TableError:
    reason = re.split(r",\s*\S+\.rs:\d+", str(error))[0]  # drop the places in Lance's own source
    return TableError(f"{uri}: the table {what}: {reason}")


def _with_metadata(schema: pa.Schema, provenance: Mapping[str, str]) -> pa.Schema:
    unknown = sorted(set(provenance) - set(METADATA_KEYS) | set(provenance) & set(IDENTITY_KEYS))
    if unknown:
        raise TableError(
            f"found metadata keys {unknown}; expected some of {METADATA_KEYS[len(IDENTITY_KEYS) :]}"
        )
    return schema.with_metadata({**(schema.metadata or {}), **provenance})


def _identity(schema: pa.Schema) -> str:
    stored = schema.metadata or {}
    name, number = (stored.get(key.encode(), b"unknown").decode() for key in IDENTITY_KEYS)
    return f"schema {name!r} version {number}"


def _require_schema(
    uri: str, found: pa.Schema, expected: pa.Schema | tuple[pa.Schema, ...]
) -> None:
    if isinstance(expected, tuple):
        same = (schema for schema in expected if _identity(schema) == _identity(found))
        expected = next(same, expected[0])
    if _identity(found) != _identity(expected):
        raise TableError(
            f"{uri}: found {_identity(found)}; expected {_identity(expected)}: a table of another "
            "version is to be made again, in a new folder"
        )
    if not found.equals(expected, check_metadata=False):
        raise TableError(
            f"{uri}: found {_identity(found)} with columns {_columns(found)}; "
            f"expected {_columns(expected)}"
        )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _conform(table: pa.Table, uri: str, schema: pa.Schema) -> pa.Table:
    """The table under exactly `schema`; Lance would store what it is given."""
    if sorted(table.column_names) != sorted(schema.names):
        raise TableError(f"{uri}: found columns {table.column_names}; expected {schema.names}")
    ordered = table.select(schema.names)
    for field in schema:
        column = ordered.column(field.name)
        if not column.type.equals(field.type):
            raise TableError(
                f"{uri}: column {field.name!r}: found {column.type}; expected {field.type}"
            )
        if not field.nullable and column.null_count:
            where = pc.index(column.is_null(), True).as_py()
            raise TableError(
                f"{uri}: column {field.name!r}: found a null in row {where}; expected a value"
            )
    return pa.Table.from_arrays(ordered.columns, schema=schema)


# what vector_search.py, the other half of this door, opens tables and says failures with
open_dataset, failure = _open, _failure
