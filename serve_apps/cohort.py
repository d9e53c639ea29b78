"""Nights embedded before, served beside the model: night_embeddings.lance of `embed cohort`.

The table is opened once, at the start, and read as it was then. Up to EXACT_NIGHTS night vectors
are kept in memory and compared one by one; of more, an index is built in the service's own folder
and some of its cells are searched.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve_apps.formats import Chosen, cast, parts_of
from serve_apps.http_errors import HttpError
from serve_apps.state_folder import remove_folder
from serve_apps.wire import DType, Level
from sleepmami import storage
from sleepmami.errors import ServiceError, TableError
from sleepmami.tables import lance_io, vector_search
from sleepmami.tables.arrays import list_values
from sleepmami.tables.embedding_rows import EmbeddedNight, read_night_embeddings
from sleepmami.tables.schemas import night_embeddings_schema, provenance

TABLE = "night_embeddings.lance"
EXACT_NIGHTS = 10_000  # 60 MB of vectors at the paper's width
PROBED_SHARE = 0.1  # of an index's cells
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Alike:
    """One night of the cohort and the cosine of its vector with that asked for."""

    recording_id: str
    similarity: float


class Cohort:
    """One cohort table.

    Args:
        uri: a folder with night_embeddings.lance, or that table itself.
        folder: where an index may be built.
        exact_nights: see EXACT_NIGHTS.

    Raises:
        TableError: no such table, one of another schema, or without nights.
        ServiceError: the nights are of several models.
    """

    def __init__(self, uri: str, folder: Path, *, exact_nights: int = EXACT_NIGHTS) -> None:
        self._uri = uri if uri.rstrip("/").endswith(".lance") else storage.join(uri, TABLE)
        version = lance_io.version(self._uri)
        ids = lance_io.read_table(
            self._uri,
            ["recording_id", "model_id", "weights_sha256"],
            schema=night_embeddings_schema(),
            version=version,
        )
        if not ids.num_rows:
            raise TableError(f"{self._uri}: found no nights; expected at least one")
        weights = sorted(set(ids.column("weights_sha256").to_pylist()))
        if len(weights) > 1:
            raise ServiceError(
                f"{self._uri}: found vectors of {len(weights)} models; expected those of one"
            )
        self.weights_sha256: str = weights[0]
        self.model_id: str = ids.column("model_id")[0].as_py()
        self.code_version = lance_io.metadata(self._uri).get("code_version", "unknown")
        names = ids.column("recording_id").to_pylist()
        self._row_of = {name: row for row, name in enumerate(names)}
        self._names = names
        self._table = lance_io.OpenTable(self._uri, version)
        self._unit_ND: NDArray[np.float32] | None = None
        self._index = str(folder / f"cohort-{self.weights_sha256[:16]}-{version}.lance")
        if len(names) <= exact_nights:
            self._unit_ND = _unit(np.concatenate(list(self._nights())))
            self.width = self._unit_ND.shape[1]
        else:
            self.width = self._build_index(folder)

    @property
    def num_recordings(self) -> int:
        """Nights of the cohort."""
        return len(self._names)

    @property
    def is_exact(self) -> bool:
        """Whether every night is compared."""
        return self._unit_ND is not None

    def night_vector(self, recording_id: str) -> NDArray[np.float32]:
        """float32[D]; HttpError("recording_not_found")."""
        table = self._table.take([self._row(recording_id)], ["night"])
        return np.asarray(list_values(table.column("night"))[0], np.float32)

    def recording(self, recording_id: str, levels: Sequence[Level], dtype: DType) -> Chosen:
        """The stored embedding of one recording.

        Raises:
            HttpError: recording_not_found; request_invalid for vectors per second, which no
                cohort holds; dtype_unfit.
        """
        (night,) = read_night_embeddings(self._table.take([self._row(recording_id)]))
        parts = [part for part in parts_of(levels) if part != "cycles"]  # the table has none
        if "second" in parts:
            raise HttpError("request_invalid")
        return Chosen(
            info=self._info(night),
            epoch_valid=night.epoch_valid,
            modality_valid=night.modality_valid,
            arrays={part: cast(getattr(night, part), dtype) for part in parts},
            dtype=dtype,
        )

    def neighbors(
        self, vector: NDArray[np.float32], k: int, without: str | None = None
    ) -> list[Alike]:
        """The nights most alike a vector, by cosine, the most alike first.

        Args:
            vector: float32[D].
            k: at most so many.
            without: a recording that is not to be among them.

        Raises:
            HttpError: request_invalid for a vector of another width, without direction, or with
                numbers that are not finite.
        """
        if vector.shape != (self.width,) or not np.isfinite(vector).all() or not vector.any():
            raise HttpError("request_invalid")
        count = min(k + (without is not None), self.num_recordings)
        found = self._search(vector, count)
        return [alike for alike in found if alike.recording_id != without][:k]

    def _search(self, vector: NDArray[np.float32], count: int) -> list[Alike]:
        if self._unit_ND is None:
            probes = max(1, round(PROBED_SHARE * self._num_cells()))
            table = vector_search.nearest(
                self._index, "night", vector.tolist(), count, ["recording_id"], probes=probes
            )
            pairs = zip(
                table.column("recording_id").to_pylist(),
                table.column("_distance").to_pylist(),
                strict=True,
            )
            return [Alike(name, 1 - distance) for name, distance in pairs]
        cosine = self._unit_ND @ _unit(vector[None])[0]
        best = np.argsort(-cosine, kind="stable")[:count]  # ties in the table's order
        return [Alike(self._names[row], float(cosine[row])) for row in best]

    def _num_cells(self) -> int:
        return max(1, math.isqrt(self.num_recordings))

    def _row(self, recording_id: str) -> int:
        row = self._row_of.get(recording_id)
        if row is None:
            raise HttpError("recording_not_found")
        return row

    def _info(self, night: EmbeddedNight) -> dict[str, Any]:  # Any: JSON values
        used = [name.partition("=")[0] for name in night.channels_used]  # without the label
        return {
            "recording_id": night.recording_id,
            "model_id": night.model_id,
            "weights_sha256": night.weights_sha256,
            "code_version": self.code_version,
            "num_epochs": len(night.epoch_valid),
            "channels_used": [{"modality": modality} for modality in used],
            "modalities_missing": list(night.modalities_missing),
        }

    def _nights(self) -> Iterator[NDArray[np.float32]]:
        for first in range(0, self.num_recordings, ROWS_AT_ONCE):
            rows = range(first, min(first + ROWS_AT_ONCE, self.num_recordings))
            column = self._table.take(rows, ["night"]).column("night")
            yield np.stack([np.asarray(night, np.float32) for night in list_values(column)])

    def _build_index(self, folder: Path) -> int:
        """Fixed-size vectors in a table of the service's own, indexed; returns their width."""
        width = len(self.night_vector(self._names[0]))
        if lance_io.exists(self._index):
            return width
        for old in folder.glob("cohort-*.lance"):
            remove_folder(old)
        schema = pa.schema(
            [
                pa.field("recording_id", pa.string(), nullable=False),
                pa.field("night", pa.list_(pa.float32(), width), nullable=False),
            ],
            metadata={"schema_name": "cohort_index", "schema_version": "1"},
        )
        fragments: list[str] = []
        first = 0
        for nights in self._nights():
            names = self._names[first : first + len(nights)]
            first += len(nights)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(nights.reshape(-1)), width)
            rows = pa.Table.from_arrays([pa.array(names), vectors], schema=schema)
            fragments += lance_io.write_fragments(rows, self._index + ".new", schema)
        made = provenance({"cohort": self.weights_sha256})
        lance_io.commit(self._index + ".new", fragments, schema, metadata=made)
        vector_search.create_vector_index(
            self._index + ".new", "night", num_partitions=self._num_cells()
        )
        Path(self._index + ".new").rename(self._index)  # whole, or built again next time
        return width


def _unit(vector_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays one."""
    length = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    return np.asarray(vector_ND / np.maximum(length, 1e-12), np.float32)
