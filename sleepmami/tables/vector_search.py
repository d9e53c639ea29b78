"""Rows whose vectors are most alike, by Lance's vector index; tables are opened by lance_io."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sleepmami.tables.lance_io import failure, open_dataset


def create_vector_index(uri: str, column: str, *, num_partitions: int) -> None:
    """Index a column of vectors by cosine; `nearest` then reads some partitions, not all rows.

    Args:
        uri: the table.
        column: a fixed-size list of float32.
        num_partitions: cells that the vectors are clustered into; about the root of their number.

    Raises:
        TableError: no such table or column, or too few rows.
    """
    try:
        open_dataset(uri).create_index(
            column, "IVF_FLAT", metric="cosine", num_partitions=num_partitions, replace=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise failure(uri, f"could not be indexed by {column}", error) from error


def nearest(
    uri: str, column: str, vector: Sequence[float], k: int, columns: Sequence[str], *, probes: int
) -> pa.Table:
    """The k rows with the least cosine distance to a vector, and `_distance`, nearest first.

    Args:
        uri: a table, with an index or without.
        column: a fixed-size list of float32.
        vector: as long as the column's.
        k: how many.
        columns: to read of them.
        probes: partitions of the index that are read; without an index all rows are.

    Raises:
        TableError: no such table or column, or a vector of another length.
    """
    search = {
        "column": column,
        "q": pa.array(vector, pa.float32()),
        "k": k,
        "metric": "cosine",
        "minimum_nprobes": probes,
        "maximum_nprobes": probes,
    }
    try:
        return open_dataset(uri).to_table(columns=[*columns, "_distance"], nearest=search)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise failure(uri, f"could not be searched by {column}", error) from error
