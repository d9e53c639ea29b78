"""Vectors of seconds of the nights of `embed cohort --second`, one night in memory at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.errors import TableError
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.schemas import second_embeddings_schema
from sleepmami.tables.second_vectors import SECOND_TABLE, seconds_of_row

_CELLS = ("recording_id", "num_epochs", "tokens_per_epoch", "token_dim", "weights_sha256")


class SecondTable:
    """second_embeddings.lance beside a table of nights.

    Args:
        nights: the URI of night_embeddings.lance.
        weights_sha256: of the model that made its vectors.

    Raises:
        TableError: there is none, or it is of another model.
    """

    def __init__(self, nights: str, weights_sha256: str) -> None:
        self.uri = storage.join(nights.rstrip("/").rpartition("/")[0] or ".", SECOND_TABLE)
        if not lance_io.exists(self.uri):
            raise TableError(
                f"{self.uri}: found no vectors of seconds; expected those of "
                "`embed cohort --second`"
            )
        rows = lance_io.read_table(self.uri, _CELLS, schema=second_embeddings_schema()).to_pylist()
        others = {row["weights_sha256"] for row in rows} - {weights_sha256}
        if others:
            raise TableError(
                f"{self.uri}: found vectors of weights {min(others)[:12]}; expected those of "
                f"{weights_sha256[:12]}, which made the nights"
            )
        self._rows = {row["recording_id"]: (place, row) for place, row in enumerate(rows)}
        self._table = lance_io.OpenTable(self.uri)

    def read(self, recording_id: str, num_epochs: int) -> NDArray[np.float32]:
        """Vectors [30 * num_epochs, F].

        Raises:
            TableError: there are none of this night, or it was longer or shorter then.
        """
        place, row = self._rows.get(recording_id, (-1, {}))
        if not row or row["num_epochs"] != num_epochs:
            found = f"those of {row['num_epochs']} epochs" if row else "none"
            raise TableError(
                f"{self.uri}: {recording_id}: found {found}; expected vectors of the seconds of "
                f"{num_epochs} epochs: run `embed cohort --second` again"
            )
        (tokens,) = list_values(self._table.take([place], ["tokens"]).column("tokens"))
        if tokens is None:
            raise TableError(f"{self.uri}: {recording_id}: found no tokens; expected some")
        return seconds_of_row(row, tokens)
