from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.errors import TableError
from sleepmami.psg import MODALITIES, Modality, Night
from sleepmami.tables.arrays import list_values
from sleepmami.tables.demographics import Demographics
from sleepmami.tables.rows import (
    fixed_size_values,
    micro_night_row,
    night_embedding_row,
    night_from_rows,
    read_micro_nights,
    read_night_embeddings,
    recording_row,
    recordings_table,
    rows_table,
    segments_table,
)
from sleepmami.tables.schemas import (
    SEGMENTS,
    micro_nights_schema,
    night_embeddings_schema,
)
from tests.unit.tables.nights import assert_same_night, make_night

PAIR = pa.list_(pa.int16(), 2)
WHO = {"recording_id": "n1", "subject_id": "s1", "cohort": "c", "split": "train"}

# a chunked column: chunks of cells, each null or a pair, each chunk cut out of a longer array
CELLS = st.lists(st.none() | st.integers(-32768, 32766).map(lambda n: [n, n + 1]), max_size=5)
CHUNKS = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4)


def pairs(cells: list[Any]) -> pa.Array:
    return pa.array(cells, PAIR)


def row_of(night: Night, **more: Any) -> dict[str, Any]:
    row = recording_row(
        night,
        **{**WHO, "recording_id": night.recording_id},
        source_hash="ab",
        segments=segments_table(night),
        demographics=None,
    )
    return {**row, **more}


# ---------------------------------------------------------------------------- Arrow <-> numpy


@settings(max_examples=60, deadline=None)
@given(CHUNKS)
def test_every_cell_keeps_its_row_whatever_is_null_sliced_or_chunked(
    chunks: list[tuple[list[Any], list[Any], list[Any]]],
) -> None:
    sliced = [
        pairs(before + cells + after).slice(len(before), len(cells))
        for before, cells, after in chunks
    ]
    expected = [cell for _, cells, _ in chunks for cell in cells]
    values, valid = fixed_size_values(pa.chunked_array(sliced, PAIR))
    assert values.dtype == np.int16
    assert values.shape == (len(expected), 2)
    assert valid.tolist() == [cell is not None for cell in expected]
    assert values.tolist() == [cell or [0, 0] for cell in expected]


def test_null_rows_hide_the_numbers_under_them() -> None:
    column = pa.FixedSizeListArray.from_arrays(
        pa.array([1, 2, 3, 4], pa.int16()), type=PAIR, mask=pa.array([True, False])
    )
    values, valid = fixed_size_values(column)
    assert values.tolist() == [[0, 0], [3, 4]]
    assert valid.tolist() == [False, True]


def test_values_without_nulls_are_not_copied() -> None:
    column = pairs([[1, 2], [3, 4], [5, 6]]).slice(1, 2)
    values, _ = fixed_size_values(column)
    memory = column.values.buffers()[1]
    assert values.__array_interface__["data"][0] == memory.address + 2 * 2


def test_a_null_inside_a_list_is_refused() -> None:
    with pytest.raises(TableError, match="null number inside"):
        fixed_size_values(pairs([[1, 2], [3, None]]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.lists(st.none() | st.integers(0, 3).map(lambda n: [n + 0.5] * n), max_size=4)] * 2
        ),
        max_size=3,
    )
)
def test_lists_come_back_row_by_row_whatever_is_null_sliced_or_chunked(
    chunks: list[tuple[list[Any], list[Any]]],
) -> None:
    kind = pa.large_list(pa.float16())
    sliced = [pa.array(before + cells, kind).slice(len(before)) for before, cells in chunks]
    expected = [cell for _, cells in chunks for cell in cells]
    found = list_values(pa.chunked_array(sliced, kind))
    assert [None if row is None else row.tolist() for row in found] == expected


def test_lists_are_views_of_the_columns_memory() -> None:
    column = pa.array([[1.0, 2.0], [3.0]], pa.large_list(pa.float16()))
    second = list_values(column)[1]
    assert second is not None
    assert second.__array_interface__["data"][0] == column.values.buffers()[1].address + 2 * 2


# ----------------------------------------------------------------------- nights of signals


@pytest.mark.parametrize("num_epochs", [2, 3, 8, 9])
def test_a_night_comes_back_bit_by_bit(num_epochs: int) -> None:
    night = make_night(num_epochs)
    assert_same_night(night_from_rows(row_of(night), segments_table(night)), night)


def test_a_night_without_some_modalities_or_hypnogram_comes_back_without_them() -> None:
    night = make_night(4, modalities=[Modality.EEG, Modality.SPO2], hypnogram=False)
    again = night_from_rows(row_of(night), segments_table(night))
    assert_same_night(again, night)
    assert again.missing == (Modality.EOG, Modality.EMG, Modality.ECG, Modality.RESP)


def test_a_segment_is_null_where_fewer_than_half_of_its_epochs_are_usable() -> None:
    # segments of a 5-epoch night hold the epochs (0, 1), (2, 3), (3, 4)
    table = segments_table(make_night(5, unusable={Modality.EEG: [1, 2, 3]}))
    assert table.column("start_epoch").to_pylist() == [0, 2, 3]
    assert table.column("eeg").is_valid().to_pylist() == [True, False, True]
    assert table.column("eog").null_count == 0


def test_a_null_segment_comes_back_as_zeros_that_are_not_usable() -> None:
    night = make_night(6, unusable={Modality.ECG: [2, 3, 5]})
    again = night_from_rows(row_of(night), segments_table(night))
    assert not again.signals[Modality.ECG][1].any()
    for segment in (0, 2):
        np.testing.assert_array_equal(
            again.signals[Modality.ECG][segment], night.signals[Modality.ECG][segment]
        )
    assert again.usable[Modality.ECG].tolist() == [True, True, False, False, True, False]


def test_each_segment_says_which_of_its_epochs_are_usable_in_which_modality() -> None:
    night = make_night(
        5,
        modalities=[Modality.EEG, Modality.SPO2],
        unusable={Modality.EEG: [1], Modality.SPO2: [3]},
    )
    absent = [False] * 8  # EOG, EMG, ECG and RESP
    assert segments_table(night).column("usable").to_pylist() == [
        [True, False, *absent, True, True],  # epochs 0 and 1
        [True, True, *absent, True, False],
        [True, True, *absent, False, True],  # epochs 3 and 4
    ]


def test_epochs_of_a_null_segment_are_not_usable_whatever_the_recording_says() -> None:
    night = make_night(5)
    table = segments_table(night)
    first, _, last = table.column("eeg").to_pylist()
    eeg = pa.array([first, None, last], SEGMENTS.field("eeg").type)
    table = table.set_column(table.column_names.index("eeg"), SEGMENTS.field("eeg"), eeg)
    again = night_from_rows(row_of(night), table)
    # segments hold the epochs (0, 1), (2, 3), (3, 4): epoch 3 is still in the last one
    assert again.usable[Modality.EEG].tolist() == [True, True, False, True, True]


def test_a_modality_with_no_stored_segment_is_absent() -> None:
    night = make_night(4, unusable={Modality.EMG: range(4)})
    again = night_from_rows(row_of(night), segments_table(night))
    assert again.missing == (Modality.EMG,)
    assert Modality.EMG not in again.usable
    assert Modality.EMG not in again.statistics


def test_segments_may_come_in_any_order() -> None:
    night = make_night(7)
    shuffled = segments_table(night).take([2, 0, 3, 1])
    assert_same_night(night_from_rows(row_of(night), shuffled), night)


@pytest.mark.parametrize("rows", [[0, 1, 1, 2], [0, 2], []])
def test_a_night_with_repeated_or_lost_segments_is_refused(rows: list[int]) -> None:
    night = make_night(6)
    table = segments_table(night).take(pa.array(rows, pa.int64()))
    with pytest.raises(TableError, match=rf"night: found {len(rows)} segments.*expected 3"):
        night_from_rows(row_of(night), table)


def test_another_nights_segments_are_refused() -> None:
    night, other = make_night(4), make_night(4, recording_id="other")
    with pytest.raises(TableError, match="found segments of"):
        night_from_rows(row_of(night), segments_table(other))


def test_a_signal_of_the_wrong_shape_is_refused_by_name() -> None:
    night = make_night(4)
    night.signals[Modality.RESP] = night.signals[Modality.EEG]  # type: ignore[index]  # a test
    with pytest.raises(
        TableError, match=r"RESP: found int16\[2, 6000\]; expected int16\[2, 3000\]"
    ):
        segments_table(night)


def test_a_rejected_recording_keeps_its_place_and_reason() -> None:
    person = Demographics(age_years=61.0, sex="female", bmi=None)
    row = recording_row(
        None,
        **WHO,
        source_hash="",
        rejected_code="not_an_edf",
        rejected_reason="first bytes are not those of an EDF",
        demographics=person,
    )
    stored = recordings_table([row]).to_pylist()[0]
    given = {name: value for name, value in stored.items() if value is not None}
    assert given == {
        **WHO,
        "age_years": 61.0,
        "age_top_coded": False,
        "sex": "female",
        "checksum": stored["checksum"],
        "rejected_code": "not_an_edf",
        "rejected_reason": "first bytes are not those of an EDF",
    }
    with pytest.raises(TableError, match=r"rejected recording \(not_an_edf\)"):
        night_from_rows(stored, SEGMENTS.empty_table())


@pytest.mark.parametrize(("has_night", "code"), [(True, "not_an_edf"), (False, None)])
def test_a_recording_has_either_a_night_or_a_reason(has_night: bool, code: str | None) -> None:
    night = make_night(2) if has_night else None
    with pytest.raises(TableError, match="either a night or a code"):
        recording_row(night, **WHO, source_hash="", rejected_code=code, demographics=None)


# ----------------------------------------------------------------------- nights of embeddings


def micro_row(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    arguments: dict[str, Any] = {
        **WHO,
        "source_hash": "ab",
        "micro": generator.standard_normal((5, len(MODALITIES), 4)).astype(np.float32),
        "modality_valid": generator.random((5, len(MODALITIES))) < 0.5,
        "demographics": Demographics(subject_id="s1", age_years=40.5, sex="male", bmi=27.0),
        "hypnogram": np.array([0, 1, 2, 3, 4], np.int8),
        "model_id": "m",
        "weights_sha256": "ab" * 32,
    }
    return micro_night_row(**{**arguments, **changes})


def test_a_micro_night_comes_back_as_half_precision() -> None:
    micro = np.random.default_rng(2).standard_normal((5, len(MODALITIES), 4)).astype(np.float32)
    rows = [
        micro_row(),
        micro_row(micro=micro, hypnogram=None, demographics=None),
    ]
    first, second = read_micro_nights(rows_table(rows, micro_nights_schema()))
    np.testing.assert_array_equal(second.micro, micro.astype(np.float16))
    assert (second.hypnogram, second.age_years, second.sex, second.bmi) == (None,) * 4
    assert first.modality_valid.tolist() == rows[0]["modality_valid"].reshape(5, 6).tolist()
    assert (first.age_years, first.sex, first.bmi, first.model_id) == (40.5, "male", 27.0, "m")
    assert first.hypnogram is not None
    assert first.hypnogram.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])  # 1e5 overflows half precision
def test_an_embedding_that_is_not_finite_is_refused(bad: float) -> None:
    micro = np.zeros((5, len(MODALITIES), 4), np.float32)
    micro[2, 3, 1] = bad
    with pytest.raises(TableError, match="n1: micro: found 1 of 120 numbers not finite as float16"):
        micro_row(micro=micro)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("micro", np.zeros((5, 24))),
        ("micro", np.zeros((4, 6, 4))),
        ("modality_valid", np.zeros((5, 5), np.bool_)),
        ("hypnogram", np.zeros(4, np.int8)),
    ],
)
def test_shapes_that_do_not_agree_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TableError, match=r"n1: \w+: found shape"):
        micro_row(**{name: value})


def test_a_stored_length_that_contradicts_the_sizes_is_refused() -> None:
    row = {**micro_row(), "dim": 5}
    with pytest.raises(TableError, match=r"n1: micro: found 120 values; expected \[5, 6, 5\]"):
        read_micro_nights(rows_table([row], micro_nights_schema()))


def test_a_night_embedding_comes_back_bit_by_bit() -> None:
    generator = np.random.default_rng(3)
    arrays = {
        "micro": generator.standard_normal((3, 24)).astype(np.float32),
        "macro": generator.standard_normal((3, 8)).astype(np.float32),
        "night": generator.standard_normal(8).astype(np.float32),
        "epoch_valid": np.array([True, False, True]),
        "modality_valid": generator.random((3, len(MODALITIES))) < 0.5,
    }
    row = night_embedding_row(
        **WHO,
        source_hash="cd",
        **arrays,
        demographics=None,
        hypnogram=None,
        model_id="m",
        weights_sha256="00ff",
        channels_used=["EEG=C3-A2"],
        modalities_missing=["SPO2"],
    )
    (night,) = read_night_embeddings(rows_table([row], night_embeddings_schema()))
    for name, expected in arrays.items():
        found = getattr(night, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert (night.source_hash, night.weights_sha256) == ("cd", "00ff")
    assert night.channels_used == ("EEG=C3-A2",)
    assert night.modalities_missing == ("SPO2",)
