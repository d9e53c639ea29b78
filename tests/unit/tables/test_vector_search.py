from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.vector_search import create_vector_index, nearest

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), 2), nullable=False),
    ],
    metadata={"schema_name": "vectors", "schema_version": "1"},
)


def write(folder: Path, angles_deg: list[float]) -> str:
    """Unit vectors at these angles, named by them."""
    radians = np.radians(angles_deg)
    flat = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32).reshape(-1)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), 2)
    names = pa.array([f"{angle:g}" for angle in angles_deg])
    uri = str(folder / "vectors.lance")
    fragments = lance_io.write_fragments(
        pa.Table.from_arrays([names, vectors], schema=SCHEMA), uri, SCHEMA
    )
    lance_io.commit(uri, fragments, SCHEMA, metadata={})
    return uri


def test_rows_come_by_cosine_distance_whatever_their_length(tmp_path: Path) -> None:
    uri = write(tmp_path, [0, 60, 90, 180])
    found = nearest(uri, "vector", [5.0, 0.0], 3, ["name"], probes=1)
    assert found.column("name").to_pylist() == ["0", "60", "90"]
    assert found.column("_distance").to_pylist() == pytest.approx([0, 0.5, 1], abs=1e-5)


def test_an_index_gives_the_same_first_rows(tmp_path: Path) -> None:
    uri = write(tmp_path, [float(angle) for angle in range(360)])
    create_vector_index(uri, "vector", num_partitions=6)
    found = nearest(uri, "vector", [0.0, 1.0], 3, ["name"], probes=6)
    assert found.column("name").to_pylist()[0] == "90"
    assert set(found.column("name").to_pylist()) == {"89", "90", "91"}


def test_a_column_or_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    uri = write(tmp_path, [0, 90])
    with pytest.raises(TableError, match="could not be searched by sound"):
        nearest(uri, "sound", [1.0, 0.0], 1, ["name"], probes=1)
    with pytest.raises(TableError, match="found no table"):
        nearest(str(tmp_path / "none.lance"), "vector", [1.0, 0.0], 1, ["name"], probes=1)
    with pytest.raises(TableError, match="could not be indexed by sound"):
        create_vector_index(uri, "sound", num_partitions=1)
