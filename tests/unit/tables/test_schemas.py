import json

import pyarrow as pa
import pytest

from sleepmami.errors import TableError
from sleepmami.psg import MODALITIES, Modality
from sleepmami.tables.schemas import (
    RECORDINGS,
    RECORDINGS_2,
    SEGMENTS,
    micro_nights_schema,
    night_embeddings_schema,
    provenance,
    rows_table,
    segment_column,
)

SCHEMAS = {
    "recordings": RECORDINGS,
    "segments": SEGMENTS,
    "micro_nights": micro_nights_schema(),
    "night_embeddings": night_embeddings_schema(),
}


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_a_schema_carries_its_name_and_version(name: str, schema: pa.Schema) -> None:
    newer = ("micro_nights", "night_embeddings", "recordings")
    version = b"3" if name in newer else b"2"
    assert schema.metadata == {b"schema_name": name.encode(), b"schema_version": version}


def test_recordings_of_version_two_are_those_without_notes() -> None:
    assert RECORDINGS_2.metadata == {b"schema_name": b"recordings", b"schema_version": b"2"}
    assert set(RECORDINGS.names) - set(RECORDINGS_2.names) == {"notes"}
    assert all(RECORDINGS.field(field.name).equals(field) for field in RECORDINGS_2)


def test_a_segment_holds_sixty_seconds_at_each_modalitys_stored_rate() -> None:
    sizes = {m: SEGMENTS.field(segment_column(m)).type.list_size for m in MODALITIES}
    assert sizes == {
        Modality.EEG: 6000,
        Modality.EOG: 6000,
        Modality.EMG: 6000,
        Modality.ECG: 6000,
        Modality.RESP: 3000,
        Modality.SPO2: 60,
    }


@pytest.mark.parametrize("name", ["micro_nights", "night_embeddings"])
def test_micro_embeddings_of_a_whole_cohort_fit_64_bit_offsets(name: str) -> None:
    assert pa.types.is_large_list(SCHEMAS[name].field("micro").type)


def test_provenance_is_json_that_says_config_code_and_sources() -> None:
    stored = provenance({"preprocess": {"notch_hz": 50.0}}, {"segments": 3})
    assert sorted(stored) == ["code_version", "config", "source_versions"]
    assert json.loads(stored["config"]) == {"preprocess": {"notch_hz": 50.0}}
    assert json.loads(stored["source_versions"]) == {"segments": 3}


SMALL = pa.schema([pa.field("name", pa.string()), pa.field("count", pa.int32())])


@pytest.mark.parametrize("row", [{"name": "a"}, {"name": "a", "count": 1, "cuont": 2}])
def test_a_row_must_name_exactly_the_columns(row: dict[str, object]) -> None:
    with pytest.raises(TableError, match=r"expected \['count', 'name'\]"):
        rows_table([row], SMALL)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(TableError, match="does not fit"):
        rows_table([{"name": "a", "count": "many"}], SMALL)
