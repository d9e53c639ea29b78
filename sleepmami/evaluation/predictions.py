"""A table of predictions as arrays: what `probe --csv` writes, read a few megabytes at a time.

Names are numbers and a list of what they stand for, so that a row of seconds takes some ten bytes:
28.8 million rows (1,000 nights of 8 hours) are 0.3 GB, and two such tables are compared in 1.3 GB.
Shapes: R rows.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from sleepmami.errors import TableError
from sleepmami.evaluation.metrics import Array, Bools, Ints

BLOCK_BYTES = 4_000_000
LIKELIHOOD = "p_"  # begins the name of a class' probability
# of sex the probability is the guess
NUMBERS = {
    "epoch": np.int32, "second": np.int8, "fold": np.int32, "event": np.int8,
    "time_days": np.float64, "log_hazard": np.float64, "p_male": np.float64,
}  # fmt: skip
PLACES = ("epoch", "second", "fold")
TEXTS = ("recording_id", "subject_id", "outcome")
ANSWERS = ("truth", "guess")  # names of classes, or quantities


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """A column of text: `names[code_R[row]]`; the names are in the order in which they came."""

    names: tuple[str, ...]
    code_R: Array

    def codes_in(self, names: tuple[str, ...]) -> Ints:
        """The rows by other names [R]; -1 for what is not among them."""
        number_of = {name: number for number, name in enumerate(names)}
        place = np.array([number_of.get(name, -1) for name in self.names], np.int64)
        return np.asarray(place[self.code_R])


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Columns of R rows each.

    Attributes:
        texts: recording_id, subject_id, and of survival outcome; truth and guess of classes.
        numbers: the others that there are.
    """

    texts: Mapping[str, Names]
    numbers: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.texts["recording_id"].code_R)

    @property
    def columns(self) -> set[str]:
        """What they are called."""
        return {*self.texts, *self.numbers}

    def where(self, chosen_R: Bools | Ints) -> Predictions:
        """Some of the rows, by flags or in an order."""
        return Predictions(
            texts={
                name: dataclasses.replace(column, code_R=column.code_R[chosen_R])
                for name, column in self.texts.items()
            },
            numbers={name: column[chosen_R] for name, column in self.numbers.items()},
        )

    def of_outcome(self, outcome: str) -> Predictions:
        """The rows of one outcome; all of them where none is named."""
        if not outcome:
            return self
        return self.where(self.texts["outcome"].codes_in((outcome,)) == 0)


def read_predictions_csv(
    stream: BinaryIO, source: str, *, quantities: bool, likelihoods: bool = False
) -> Predictions:
    """Read a table.

    Args:
        stream: from its first byte.
        source: its name, for errors.
        quantities: whether truth and guess are numbers; else they are names of classes.
        likelihoods: also the probability of each class.

    Raises:
        TableError: it is no table of predictions.
    """
    try:
        (header,) = [*csv.reader([stream.readline().decode()])] or [[]]
    except (ValueError, csv.Error) as error:
        raise TableError(f"{source}: found {error}; expected predictions") from error
    known = {"truth"} if "truth" in header else {"outcome", "event", "time_days"}
    if not {"recording_id", "subject_id", *known} <= set(header):
        raise TableError(f"{source}: found columns {header}; expected predictions")
    answers = np.float64 if quantities else None
    kinds: dict[str, type | None] = dict.fromkeys(TEXTS) | NUMBERS | dict.fromkeys(ANSWERS, answers)
    if likelihoods:
        kinds |= {name: np.float64 for name in header if name.startswith(LIKELIHOOD)}
    wanted = {name: kinds[name] for name in header if name in kinds}
    parts = {name: _Growing(kind) for name, kind in wanted.items()}
    try:
        for batch in _batches(stream, header, wanted):
            for name, column in zip(wanted, batch.columns, strict=True):
                parts[name].add(column)
    except ValueError as error:  # of Arrow, which names the row and what it found
        raise TableError(f"{source}: found {error}; expected predictions") from error
    numbers = {name: parts[name].array() for name, kind in wanted.items() if kind is not None}
    for name, column in numbers.items():
        if name in PLACES and column.min(initial=0) < 0:
            raise TableError(f"{source}: found {name} {column.min()}; expected predictions of 0 on")
    return Predictions(
        texts={name: parts[name].names() for name, kind in wanted.items() if kind is None},
        numbers=numbers,
    )


def _batches(
    stream: BinaryIO, header: list[str], wanted: Mapping[str, type | None]
) -> arrow_csv.CSVStreamingReader | tuple[()]:
    types = {
        name: pa.dictionary(pa.int32(), pa.string()) if kind is None else pa.from_numpy_dtype(kind)
        for name, kind in wanted.items()
    }
    try:
        return arrow_csv.open_csv(
            stream,
            arrow_csv.ReadOptions(column_names=header, block_size=BLOCK_BYTES, use_threads=False),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(wanted), null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # a header, and nobody who was tested
            return ()
        raise


class _Growing:
    """A column while it is read; text where there is no kind of number."""

    def __init__(self, kind: type | None) -> None:
        self._kind = kind
        self._parts: list[Array] = [np.zeros(0, kind or np.int8)]
        self._number_of: dict[str, int] = {}

    def add(self, column: pa.Array) -> None:
        if self._kind is not None:
            # a copy: what Arrow lends may be a slice of something larger
            self._parts.append(column.to_numpy(zero_copy_only=False).astype(self._kind))
            return
        names, number_of = column.dictionary.to_pylist(), self._number_of
        place = np.array([number_of.setdefault(n, len(number_of)) for n in names], np.int64)
        code_R = place[column.indices.to_numpy(zero_copy_only=False)]
        self._parts.append(code_R.astype(_narrow(len(number_of))))

    def names(self) -> Names:
        return Names(names=tuple(self._number_of), code_R=self.array())

    def array(self) -> Array:
        """All of it; the parts are let go."""
        whole = np.concatenate(self._parts)
        self._parts.clear()
        return whole


def _narrow(num_names: int) -> type:
    """The smallest integers that number so many names."""
    kinds = (np.int8, np.int16, np.int32)
    return next((kind for kind in kinds if num_names <= np.iinfo(kind).max), np.int64)
