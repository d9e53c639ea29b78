"""Exported embeddings as nights that a probe reads a few at a time.

Two forms: the OUT folder of `embed cohort` (night_embeddings.lance), and a folder of the .npz files
of `embed file`, which name their recording and nothing else. Vectors of seconds are there where
they were asked for (`--second`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sleepmami import storage
from sleepmami.config import Level
from sleepmami.errors import TableError
from sleepmami.evaluation.metrics import Bools
from sleepmami.psg import EPOCH_S, ScoredEvent
from sleepmami.tables.arrays import list_values
from sleepmami.tables.cycle_vectors import NIGHT_VECTOR
from sleepmami.tables.demographics import Outcome, Sex, known_number
from sleepmami.tables.schemas import night_embeddings_schema

if TYPE_CHECKING:
    from sleepmami.evaluation.second_table import SecondTable

TABLE = "night_embeddings.lance"
NIGHTS_AT_ONCE = 8  # of the paper's size: 80 MB
BASELINE = "band-powers-"  # how the model_id of vectors without an encoder begins
NIGHT_COLUMNS = (
    "recording_id", "num_epochs", "subject_id", "split", "cohort", "age_years", "sex", "bmi",
)  # fmt: skip
_NPZ_KEYS = {"micro", "macro", "night", "epoch_valid", "info"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeNight:
    """What is known of an embedded night; None is unknown.

    Attributes:
        cohort: the study, or what the ingest was told.
        montage: a name of the recorder by its channels.
        hypnogram: Stage codes int8[num_epochs].
        events: of a scoring that holds any kind of events.
    """

    recording_id: str
    num_epochs: int
    subject_id: str | None = None
    split: str | None = None
    cohort: str | None = None
    montage: str | None = None
    hypnogram: NDArray[np.int8] | None = None
    events: tuple[ScoredEvent, ...] | None = None
    age_years: float | None = None
    sex: Sex | None = None
    bmi: float | None = None
    ahi: float | None = None
    outcomes: tuple[Outcome, ...] | None = None


class NightVectors(NamedTuple):
    """Vectors of one night: [L, F] of its epochs and which are valid, or [1, F] of the night.

    Of seconds, L is 30 times as large, and a second is valid if its epoch is.
    """

    place: int  # among `Embeddings.nights`
    x_LF: NDArray[np.float32]
    valid_L: Bools


class Embeddings(Protocol):
    """Nights of one model."""

    uri: str
    model_id: str
    weights_sha256: str
    nights: tuple[ProbeNight, ...]

    def read(self, places: Sequence[int], level: Level) -> Iterator[NightVectors]:
        """Vectors of some nights, in ascending order of their places."""


def open_embeddings(uri: str) -> Embeddings:
    """What `embed cohort` or `embed file` wrote.

    Args:
        uri: a folder with night_embeddings.lance, that table itself, a folder of .npz files, or the
            micro_nights.lance of `embed micro`, which has level micro alone.

    Raises:
        TableError: there is neither, vectors of several models, the same recording twice, or no
            Lance to read the table with.
    """
    table = uri if uri.rstrip("/").endswith(".lance") else storage.join(uri, TABLE)
    found: Embeddings
    if table.rstrip("/").endswith("micro_nights.lance"):
        from sleepmami.evaluation.micro_nights import MicroNights

        found = MicroNights(table)
    elif table == uri or storage.exists(table):
        found = _LanceEmbeddings(table)
    else:
        files = storage.list_files(uri, (".npz",)) if storage.exists(uri) else []
        if not files:
            raise TableError(f"{uri}: found neither {TABLE} nor .npz files; expected embeddings")
        found = _NpzEmbeddings(uri, files)
    names = [night.recording_id for night in found.nights]
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise TableError(f"{uri}: found {twice} twice; expected each recording once")
    return found


def nights_of_rows(
    rows: Sequence[Mapping[str, Any]], hypnograms: Sequence[NDArray[Any] | None]
) -> tuple[ProbeNight, ...]:
    """The nights of a table, from rows that have NIGHT_COLUMNS; NaN is unknown."""
    numbers = ("age_years", "bmi")
    return tuple(
        ProbeNight(
            **{name: row[name] for name in NIGHT_COLUMNS}
            | {name: known_number(row[name]) for name in numbers},
            hypnogram=hypnogram,
        )
        for row, hypnogram in zip(rows, hypnograms, strict=True)
    )


class _LanceEmbeddings:
    def __init__(self, uri: str) -> None:
        try:  # a folder of .npz is probed without Lance
            from sleepmami.tables import lance_io
        except ModuleNotFoundError as error:
            raise TableError(
                f"{uri}: found no {error.name} to read it with; this needs: "
                "pip install 'sleepmami[probe]'"
            ) from error
        self.uri = uri
        table = lance_io.read_table(
            uri,
            [*NIGHT_COLUMNS, "model_id", "weights_sha256", "hypnogram"],
            schema=night_embeddings_schema(),
        )
        rows = table.drop_columns(["hypnogram"]).to_pylist()
        self.model_id = the_only(uri, "model_id", [row["model_id"] for row in rows])
        self.weights_sha256 = the_only(uri, "weights_sha256", [r["weights_sha256"] for r in rows])
        self.nights = nights_of_rows(rows, list_values(table.column("hypnogram")))
        self._table = lance_io.OpenTable(uri)
        self._seconds: SecondTable | None = None

    def read(self, places: Sequence[int], level: Level) -> Iterator[NightVectors]:
        """See Embeddings."""
        if level == "second":
            yield from self._read_seconds(sorted(places))
            return
        ordered = sorted(places)
        for first in range(0, len(ordered), NIGHTS_AT_ONCE):
            group = ordered[first : first + NIGHTS_AT_ONCE]
            columns = [level] if level == "night" else [level, "epoch_valid"]
            table = self._table.take(group, columns)
            vectors = list_values(table.column(level))
            valid: list[NDArray[Any] | None] = [None] * len(group)
            if level != "night":
                valid = list_values(table.column("epoch_valid"))
            for place, flat, valid_L in zip(group, vectors, valid, strict=True):
                yield _night_vectors(self.nights[place], place, level, flat, valid_L)

    def _read_seconds(self, places: Sequence[int]) -> Iterator[NightVectors]:
        """One night at a time: its tokens and its seconds are in memory together."""
        from sleepmami.evaluation.second_table import SecondTable

        if self._seconds is None:
            self._seconds = SecondTable(self.uri, self.weights_sha256)
        for place in places:
            night = self.nights[place]
            x_LF = self._seconds.read(night.recording_id, night.num_epochs)
            (valid_L,) = list_values(self._table.take([place], ["epoch_valid"]).column(0))
            yield _night_vectors(night, place, "second", x_LF, valid_L)


class _NpzEmbeddings:
    def __init__(self, uri: str, files: Sequence[str]) -> None:
        self.uri, self._files = uri, tuple(files)
        infos = [self._read(file, ("info",))["info"] for file in files]
        known = [json.loads(str(info)) for info in infos]
        pairs = zip(files, known, strict=True)
        self._of_cycles = [file for file, i in pairs if i.get("night_vector") != NIGHT_VECTOR]
        self.model_id = the_only(uri, "model_id", [info["model_id"] for info in known])
        self.weights_sha256 = the_only(uri, "weights_sha256", [i["weights_sha256"] for i in known])
        self.nights = tuple(
            ProbeNight(recording_id=info["recording_id"], num_epochs=info["num_epochs"])
            for info in known
        )

    def read(self, places: Sequence[int], level: Level) -> Iterator[NightVectors]:
        """See Embeddings."""
        if level == "night" and self._of_cycles:
            raise TableError(
                f"{self._of_cycles[0]}: found a night vector of an earlier kind, the mean of the "
                f"cycles' ends; expected {NIGHT_VECTOR}: embed again, or ask for level=macro, "
                "which is their mean"
            )
        for place in sorted(places):
            arrays = self._read(self._files[place], (level, "epoch_valid"))
            valid_L = None if level == "night" else arrays["epoch_valid"]
            yield _night_vectors(self.nights[place], place, level, arrays[level], valid_L)

    def _read(self, file: str, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        try:
            with _opened(file) as source, np.load(source, allow_pickle=False) as stored:
                if not set(stored.files) >= _NPZ_KEYS:
                    raise TableError(
                        f"{file}: found {sorted(stored.files)}; expected {sorted(_NPZ_KEYS)}, as "
                        "`embed file` writes them"
                    )
                if not set(stored.files) >= set(keys):
                    raise TableError(
                        f"{file}: found no vectors of seconds; expected those of "
                        "`embed file --second`"
                    )
                return {key: stored[key] for key in keys}
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise TableError(f"{file}: found no readable .npz ({error})") from error


def _opened(file: str) -> BinaryIO:
    """A local file in place, of which only what is asked for is read; else all of it."""
    if storage.is_local(file):
        return open(storage.absolute(file), "rb")
    return io.BytesIO(storage.read_bytes(file))


def the_only(uri: str, name: str, values: Sequence[str]) -> str:
    """What all nights of a table say alike; TableError where they do not, or there is none."""
    found = sorted(set(values))
    if not found:
        raise TableError(f"{uri}: found no night; expected embeddings")
    if len(found) > 1:
        raise TableError(
            f"{uri}: found {name} {', '.join(found[:5])}; expected one: vectors of different "
            "models do not mix"
        )
    return found[0]


def _night_vectors(
    night: ProbeNight, place: int, level: Level, values: Any, valid_L: Bools | None
) -> NightVectors:  # Any: what the table or file holds, checked here
    num_rows = 1 if level == "night" else night.num_epochs
    if valid_L is None:
        valid_L = np.ones(1, np.bool_)
    if level == "second":
        num_rows, valid_L = EPOCH_S * num_rows, np.repeat(valid_L, EPOCH_S)
    if values.size % max(num_rows, 1) or not values.size or len(valid_L) != num_rows:
        raise TableError(
            f"{night.recording_id}: {level}: found {values.size} values and {len(valid_L)} flags; "
            f"expected {num_rows} vectors"
        )
    x_LF = np.asarray(values, np.float32).reshape(num_rows, -1)
    if not np.isfinite(x_LF).all():
        raise TableError(f"{night.recording_id}: {level}: found numbers that are not finite")
    return NightVectors(place, x_LF, valid_L)
