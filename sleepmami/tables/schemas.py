"""The columns of the tables: Arrow schemas that carry their own name and version.

docs/data.md says what each column means, its unit, and what a null in it means.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sleepmami import __version__
from sleepmami.errors import TableError
from sleepmami.psg import LAYOUTS, SEGMENT_EPOCHS, SEGMENT_S, Layout, Modality

Row = dict[str, Any]  # Any: one value per column of a schema

# raised when a column is added, removed, renamed or changes its meaning
SCHEMA_VERSION = "2"
# 3: `notes` is new. A table of version 2 is read as before, and an ingest goes on with it as it is
RECORDINGS_VERSION = "3"
# 3: `night` is the mean of the valid epochs; it was that of the cycles' ends
NIGHT_EMBEDDINGS_VERSION = "3"
MICRO_NIGHTS_VERSION = "3"  # 3: `weights_sha256`; the model's name ends in 12 digits of it


def _schema(name: str, fields: list[pa.Field], version: str = SCHEMA_VERSION) -> pa.Schema:
    return pa.schema(fields, metadata={"schema_name": name, "schema_version": version})


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def segment_column(modality: Modality) -> str:
    """The column of segments.lance that holds a modality's signal."""
    return modality.value.lower()


_IDENTITY = [
    _required("recording_id", pa.string()),
    _required("subject_id", pa.string()),
    _required("cohort", pa.string()),
    _required("split", pa.string()),
    pa.field("source_hash", pa.string()),  # of the EDF's bytes; null when it could not be read
]
_DEMOGRAPHICS = [
    pa.field("age_years", pa.float32()),
    pa.field("sex", pa.string()),
    pa.field("bmi", pa.float32()),
]

_OUTCOME = pa.struct(
    [
        ("name", pa.string()),
        ("event", pa.bool_()),
        ("time_days", pa.float64()),
        ("prevalent", pa.bool_()),
    ]
)
_EVENT = pa.struct([("start_s", pa.float64()), ("duration_s", pa.float64()), ("kind", pa.string())])

RECORDINGS = _schema(
    "recordings",
    [
        *_IDENTITY,
        pa.field("source_stamp", pa.string()),  # of the file's size and time of change
        pa.field(
            "signals_digest", pa.string()
        ),  # of what segments.lance holds; null when rejected, but for copies
        *_DEMOGRAPHICS,
        pa.field("age_top_coded", pa.bool_()),  # age_years stands for all older ages, too
        pa.field("ahi", pa.float32()),
        pa.field("outcomes", pa.list_(_OUTCOME)),
        pa.field("num_epochs", pa.int32()),
        pa.field("hypnogram", pa.list_(pa.int8())),
        pa.field("events", pa.list_(_EVENT)),
        pa.field(
            "gaps", pa.list_(pa.struct([("start_s", pa.float64()), ("stop_s", pa.float64())]))
        ),
        pa.field(
            "usable",
            pa.list_(pa.struct([("modality", pa.string()), ("epochs", pa.list_(pa.bool_()))])),
        ),
        pa.field(
            "statistics",
            pa.list_(
                pa.struct(
                    [
                        ("modality", pa.string()),
                        ("mean", pa.float64()),
                        ("std", pa.float64()),
                        ("unit", pa.string()),
                    ]
                )
            ),
        ),
        pa.field(
            "channels",
            pa.list_(
                pa.struct(
                    [
                        ("label", pa.string()),
                        ("modality", pa.string()),
                        ("unit", pa.string()),
                        ("sample_rate_hz", pa.float64()),
                        ("decision", pa.string()),
                        ("reason", pa.string()),
                        ("reference", pa.string()),
                        ("side", pa.string()),
                        ("confidence", pa.string()),
                    ]
                )
            ),
        ),
        pa.field("missing", pa.list_(pa.string())),
        pa.field("notes", pa.list_(pa.string())),  # what was unusual about the file of a night
        pa.field("rejected_code", pa.string()),
        pa.field("rejected_reason", pa.string()),
        _required("checksum", pa.uint64()),  # of the row: tables/checksums.py
    ],
    RECORDINGS_VERSION,
)
RECORDINGS_2 = _schema("recordings", [field for field in RECORDINGS if field.name != "notes"])
ANY_RECORDINGS = (RECORDINGS, RECORDINGS_2)


def segments_schema(layout: Layout) -> pa.Schema:
    """segments.lance of one layout; a table of another layout is refused by its name."""
    suffix = "" if layout.name == "sleepmami" else f"_{layout.name}"
    return _schema(
        f"segments{suffix}",
        [
            _required("recording_id", pa.string()),
            _required("segment_index", pa.int32()),
            _required("start_epoch", pa.int32()),
            *(
                pa.field(segment_column(m), pa.list_(pa.int16(), SEGMENT_S * rate_hz))
                for m, rate_hz in layout.rate_hz.items()
            ),
            # [modality, epoch] flattened: the other epoch of a stored segment may hold only zeros
            _required("usable", pa.list_(pa.bool_(), len(layout.rate_hz) * SEGMENT_EPOCHS)),
            _required("checksum", pa.uint64()),
        ],
    )


SEGMENTS = segments_schema(LAYOUTS["sleepmami"])


def micro_nights_schema() -> pa.Schema:
    """One row per night of Micro-Encoder embeddings, what the Macro-Encoder trains on.

    `micro` is a large_list: 32-bit offsets end at 2^31 numbers, which 863 nights of 1080 epochs x
    6 modalities x 384 exceed, and a shuffle buffer holds that many.
    """
    return _schema(
        "micro_nights",
        [
            *_IDENTITY,
            _required("num_epochs", pa.int32()),
            _required("dim", pa.int32()),
            _required("micro", pa.large_list(pa.float16())),
            _required("modality_valid", pa.list_(pa.bool_())),
            *_DEMOGRAPHICS,
            pa.field("hypnogram", pa.list_(pa.int8())),
            _required("model_id", pa.string()),
            _required("weights_sha256", pa.string()),
        ],
        MICRO_NIGHTS_VERSION,
    )


def night_embeddings_schema() -> pa.Schema:
    """One row per night of final embeddings."""
    return _schema(
        "night_embeddings",
        [
            *_IDENTITY,
            _required("num_epochs", pa.int32()),
            _required("micro_dim", pa.int32()),
            _required("macro_dim", pa.int32()),
            _required("micro", pa.large_list(pa.float32())),
            _required("macro", pa.large_list(pa.float32())),
            _required("night", pa.list_(pa.float32())),
            _required("epoch_valid", pa.list_(pa.bool_())),
            _required("modality_valid", pa.list_(pa.bool_())),
            *_DEMOGRAPHICS,
            pa.field("hypnogram", pa.list_(pa.int8())),
            _required("model_id", pa.string()),
            _required("weights_sha256", pa.string()),
            _required("channels_used", pa.list_(pa.string())),
            _required("modalities_missing", pa.list_(pa.string())),
        ],
        NIGHT_EMBEDDINGS_VERSION,
    )


def second_embeddings_schema() -> pa.Schema:
    """One row per night of what vectors of seconds are made from, beside its night_embeddings.

    `tokens` holds tokens_per_epoch * num_epochs rows of `token_dim`, the blocks of MODALITIES side
    by side; tables/second_vectors.py makes 30 vectors an epoch of them.
    """
    return _schema(
        "second_embeddings",
        [
            _required("recording_id", pa.string()),
            pa.field("source_hash", pa.string()),
            _required("num_epochs", pa.int32()),
            _required("tokens_per_epoch", pa.int32()),
            _required("token_dim", pa.int32()),
            _required("tokens", pa.large_list(pa.float16())),
            _required("model_id", pa.string()),
            _required("weights_sha256", pa.string()),
        ],
    )


def provenance(
    config: Mapping[str, Any], source_versions: Mapping[str, int] | None = None
) -> dict[str, str]:
    """What made a table, for `lance_io.commit(metadata=...)`.

    Args:
        config: the config's plain dict (`config.to_dict`); any JSON values.
        source_versions: Lance version of each table that was read, by table name.
    """
    return {
        "config": json.dumps(config, sort_keys=True),
        "code_version": __version__,
        "source_versions": json.dumps(dict(source_versions or {}), sort_keys=True),
    }


def rows_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows -> a table; every column must be given, for a forgotten one would read as null."""
    for row in rows:
        if set(row) != set(schema.names):
            raise TableError(f"found a row of {sorted(row)}; expected {sorted(schema.names)}")
    try:
        return pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TableError(f"found a value that does not fit its column: {error}") from error
