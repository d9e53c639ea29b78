"""Nights of embeddings -> rows of micro_nights.lance and night_embeddings.lance, and back.

Shapes: L epochs of a night, M modalities in MODALITIES order, D features of one modality's epoch.
What is read are views of Arrow's memory, not copies, and therefore read-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sleepmami.errors import TableError
from sleepmami.psg import MODALITIES
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import Demographics, Sex, demographic_cells
from sleepmami.tables.schemas import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredNight:
    """What every stored embedding of a night has: whose it is, what is known, what made it."""

    recording_id: str
    subject_id: str
    cohort: str
    split: str
    source_hash: str | None
    modality_valid: NDArray[np.bool_]  # [L, M]
    age_years: float | None
    sex: Sex | None
    bmi: float | None
    hypnogram: NDArray[np.int8] | None  # [L] Stage codes
    model_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroNight(StoredNight):
    """One row of micro_nights.lance."""

    micro: NDArray[np.float16]  # [L, M, D], zeros where a modality is not valid


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedNight(StoredNight):
    """One row of night_embeddings.lance."""

    micro: NDArray[np.float32]  # [L, M * D]
    macro: NDArray[np.float32]  # [L, macro_dim]
    night: NDArray[np.float32]
    epoch_valid: NDArray[np.bool_]  # [L]
    weights_sha256: str
    channels_used: tuple[str, ...]
    modalities_missing: tuple[str, ...]


def micro_night_row(
    *,
    recording_id: str,
    subject_id: str,
    cohort: str,
    split: str,
    source_hash: str | None,
    micro: NDArray[np.floating[Any]],
    modality_valid: NDArray[np.bool_],
    demographics: Demographics | None,
    hypnogram: NDArray[np.int8] | None,
    model_id: str,
    weights_sha256: str,
) -> Row:
    """A night of micro embeddings [L, M, D] and modality_valid [L, M] as a row.

    Raises:
        TableError: shapes that do not agree, or numbers that are not finite in half precision.
    """
    length, _, dim = _require_shape(recording_id, "micro", micro, (None, len(MODALITIES), None))
    _require_shape(recording_id, "modality_valid", modality_valid, (length, len(MODALITIES)))
    return {
        "recording_id": recording_id,
        "subject_id": subject_id,
        "cohort": cohort,
        "split": split,
        "source_hash": source_hash,
        "num_epochs": length,
        "dim": dim,
        "micro": _finite(recording_id, "micro", micro, np.float16),
        "modality_valid": np.asarray(modality_valid, np.bool_).reshape(-1),
        **demographic_cells(demographics),
        "hypnogram": _hypnogram(recording_id, hypnogram, length),
        "model_id": model_id,
        "weights_sha256": weights_sha256,
    }


def night_embedding_row(
    *,
    recording_id: str,
    subject_id: str,
    cohort: str,
    split: str,
    source_hash: str | None,
    micro: NDArray[np.floating[Any]],
    macro: NDArray[np.floating[Any]],
    night: NDArray[np.floating[Any]],
    epoch_valid: NDArray[np.bool_],
    modality_valid: NDArray[np.bool_],
    demographics: Demographics | None,
    hypnogram: NDArray[np.int8] | None,
    model_id: str,
    weights_sha256: str,
    channels_used: Sequence[str],
    modalities_missing: Sequence[str],
) -> Row:
    """A night's final embeddings as a row; shapes as in EmbeddedNight.

    Raises:
        TableError: shapes that do not agree, or numbers that are not finite.
    """
    length, micro_dim = _require_shape(recording_id, "micro", micro, (None, None))
    _, macro_dim = _require_shape(recording_id, "macro", macro, (length, None))
    _require_shape(recording_id, "night", night, (None,))
    _require_shape(recording_id, "epoch_valid", epoch_valid, (length,))
    _require_shape(recording_id, "modality_valid", modality_valid, (length, len(MODALITIES)))
    return {
        "recording_id": recording_id,
        "subject_id": subject_id,
        "cohort": cohort,
        "split": split,
        "source_hash": source_hash,
        "num_epochs": length,
        "micro_dim": micro_dim,
        "macro_dim": macro_dim,
        "micro": _finite(recording_id, "micro", micro, np.float32),
        "macro": _finite(recording_id, "macro", macro, np.float32),
        "night": _finite(recording_id, "night", night, np.float32),
        "epoch_valid": np.asarray(epoch_valid, np.bool_),
        "modality_valid": np.asarray(modality_valid, np.bool_).reshape(-1),
        **demographic_cells(demographics),
        "hypnogram": _hypnogram(recording_id, hypnogram, length),
        "model_id": model_id,
        "weights_sha256": weights_sha256,
        "channels_used": list(channels_used),
        "modalities_missing": list(modalities_missing),
    }


def read_micro_nights(table: pa.Table) -> list[MicroNight]:
    """Rows of micro_nights.lance, all columns, as nights.

    Raises:
        TableError: a list whose length is not what the row's sizes say.
    """
    return [
        MicroNight(
            **common,
            micro=_shaped(row, "micro", (row["num_epochs"], len(MODALITIES), row["dim"])),
        )
        for row, common in _stored_rows(table, ("micro",))
    ]


def read_night_embeddings(table: pa.Table) -> list[EmbeddedNight]:
    """Rows of night_embeddings.lance, all columns, as nights.

    Raises:
        TableError: a list whose length is not what the row's sizes say.
    """
    lists = ("micro", "macro", "night", "epoch_valid")
    return [
        EmbeddedNight(
            **common,
            micro=_shaped(row, "micro", (row["num_epochs"], row["micro_dim"])),
            macro=_shaped(row, "macro", (row["num_epochs"], row["macro_dim"])),
            night=row["night"],
            epoch_valid=_shaped(row, "epoch_valid", (row["num_epochs"],)),
            weights_sha256=row["weights_sha256"],
            channels_used=tuple(row["channels_used"]),
            modalities_missing=tuple(row["modalities_missing"]),
        )
        for row, common in _stored_rows(table, lists)
    ]


def _stored_rows(table: pa.Table, lists: tuple[str, ...]) -> Iterator[tuple[Row, Row]]:
    """Each row with its long lists as arrays, and what StoredNight takes of it."""
    arrays = (*lists, "modality_valid", "hypnogram")
    values = [list_values(table.column(name)) for name in arrays]
    scalars = table.drop_columns(list(arrays)).to_pylist()
    for row, *parts in zip(scalars, *values, strict=True):
        row |= dict(zip(arrays, parts, strict=True))
        yield (
            row,
            {
                **{name: row[name] for name in _COMMON},
                "modality_valid": _shaped(
                    row, "modality_valid", (row["num_epochs"], len(MODALITIES))
                ),
            },
        )


_COMMON = (
    "recording_id",
    "subject_id",
    "cohort",
    "split",
    "source_hash",
    "age_years",
    "sex",
    "bmi",
    "hypnogram",
    "model_id",
)


def _shaped(row: Row, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    values: NDArray[Any] = row[name]
    if values.size != np.prod(shape):
        raise TableError(
            f"{row['recording_id']}: {name}: found {values.size} values; expected {list(shape)}"
        )
    return values.reshape(shape)


def _require_shape(
    recording_id: str, name: str, values: NDArray[Any], shape: tuple[int | None, ...]
) -> tuple[int, ...]:
    fits = values.ndim == len(shape) and all(
        expected in (None, found) for found, expected in zip(values.shape, shape, strict=True)
    )
    if not fits:
        wanted = ["any" if size is None else size for size in shape]
        raise TableError(
            f"{recording_id}: {name}: found shape {list(values.shape)}; expected {wanted}"
        )
    return values.shape


def _finite(
    recording_id: str, name: str, values: NDArray[np.floating[Any]], dtype: type[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    with np.errstate(over="ignore"):  # an overflow is infinite, and found below
        stored = np.ascontiguousarray(values, dtype).reshape(-1)
    num_bad = stored.size - np.count_nonzero(np.isfinite(stored))
    if num_bad:
        raise TableError(
            f"{recording_id}: {name}: found {num_bad} of {stored.size} numbers not finite as "
            f"{dtype.__name__}; expected only finite ones"
        )
    return stored


def _hypnogram(
    recording_id: str, hypnogram: NDArray[np.int8] | None, length: int
) -> NDArray[np.int8] | None:
    if hypnogram is None:
        return None
    _require_shape(recording_id, "hypnogram", hypnogram, (length,))
    return np.asarray(hypnogram, np.int8)
