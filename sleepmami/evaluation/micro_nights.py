"""The table of `embed micro` as embeddings of level micro: a Micro-Encoder without a Macro-Encoder.

Rows 1 to 4 of Table 11 and row 1 of Table 12 are such models. The table is half precision; values
differ from `embed cohort`'s by that rounding, 0.05 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sleepmami.config import Level
from sleepmami.errors import ConfigError
from sleepmami.evaluation.embeddings import (
    NIGHT_COLUMNS,
    NIGHTS_AT_ONCE,
    NightVectors,
    nights_of_rows,
    the_only,
)
from sleepmami.psg import MODALITIES
from sleepmami.tables import lance_io
from sleepmami.tables.arrays import list_values
from sleepmami.tables.schemas import micro_nights_schema


class MicroNights:
    """Nights of one Micro-Encoder; see `embeddings.Embeddings`.

    Args:
        uri: of micro_nights.lance.

    Raises:
        TableError: no such table, of another schema, without nights, or of several models.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        columns = [*NIGHT_COLUMNS, "model_id", "weights_sha256", "dim", "hypnogram"]
        table = lance_io.read_table(uri, columns, schema=micro_nights_schema())
        rows = table.drop_columns(["hypnogram"]).to_pylist()
        self.model_id = the_only(uri, "model_id", [row["model_id"] for row in rows])
        self.weights_sha256 = the_only(
            uri, "weights_sha256", [row["weights_sha256"] for row in rows]
        )
        self._dims = [row["dim"] for row in rows]
        self.nights = nights_of_rows(rows, list_values(table.column("hypnogram")))
        self._table = lance_io.OpenTable(uri)

    def read(self, places: Sequence[int], level: Level) -> Iterator[NightVectors]:
        """Six Micro vectors of an epoch side by side; an epoch without any modality is not valid.

        Raises:
            ConfigError: another level is asked for.
        """
        if level != "micro":
            raise ConfigError(
                f"level={level!r}: {self.uri} has vectors of a Micro-Encoder alone; expected micro"
            )
        ordered = sorted(places)
        for first in range(0, len(ordered), NIGHTS_AT_ONCE):
            group = ordered[first : first + NIGHTS_AT_ONCE]
            table = self._table.take(group, ["micro", "modality_valid"])
            vectors = list_values(table.column("micro"))
            flags = list_values(table.column("modality_valid"))
            for place, flat, valid in zip(group, vectors, flags, strict=True):
                num_epochs, width = self.nights[place].num_epochs, self._dims[place]
                x_LF = np.asarray(flat, np.float32).reshape(num_epochs, len(MODALITIES) * width)
                valid_LM = np.asarray(valid, np.bool_).reshape(num_epochs, len(MODALITIES))
                yield NightVectors(place, x_LF, np.logical_or.reduce(valid_LM, axis=1))
