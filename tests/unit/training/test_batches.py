from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from sleepmami.config import FACTORS, Factor
from sleepmami.errors import TrainingError
from sleepmami.psg import MODALITIES, SEGMENT_S, STORED_RATE_HZ, Modality, Night
from sleepmami.tables import lance_io
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.tables.embedding_rows import MicroNight
from sleepmami.tables.rows import segments_table
from sleepmami.tables.schemas import SEGMENTS
from sleepmami.training.batches import (
    SEGMENT_BATCH_COLUMNS,
    SegmentBuffer,
    macro_batch,
    night_batch,
    segment_batch,
    to_model_rate,
)

EEG, RESP, SPO2 = (MODALITIES.index(m) for m in (Modality.EEG, Modality.RESP, Modality.SPO2))


def night(num_epochs: int = 7, *, without: tuple[Modality, ...] = ()) -> Night:
    """Random integers; of the odd number of epochs the last segment overlaps the one before."""
    generator = np.random.default_rng(1)
    present = [m for m in MODALITIES if m not in without]
    num_segments = (num_epochs + 1) // 2
    usable = {m: np.ones(num_epochs, np.bool_) for m in present}
    for modality in present[:1]:
        usable[modality][2:4] = False  # all of segment 1
        usable[modality][0] = False  # half of segment 0, which is kept
    return Night(
        recording_id="night",
        num_epochs=num_epochs,
        signals={
            m: generator.integers(
                -5000, 5000, (num_segments, SEGMENT_S * STORED_RATE_HZ[m]), np.int16
            )
            for m in present
        },
        usable=usable,
        statistics={},
    )


def at_model_rate(stored: NDArray[np.int16], rate_hz: int) -> NDArray[np.float32]:
    out = torch.full((len(stored), 6000), torch.nan)
    signal: NDArray[np.float32] = to_model_rate(torch.from_numpy(stored), rate_hz, out=out).numpy()
    return signal


def resampled(stored: list[int], rate_hz: int) -> NDArray[np.float32]:
    row = np.zeros((1, SEGMENT_S * rate_hz), np.int16)
    row[0, : len(stored)] = stored
    return at_model_rate(row, rate_hz)[0]


def test_stored_thousandths_become_z_scores() -> None:
    signal = resampled([1000, -2500, 1], 100)
    np.testing.assert_allclose(signal[:4], [1.0, -2.5, 0.001, 0.0], rtol=1e-6)


def test_respiration_gets_the_midpoint_between_two_stored_samples() -> None:
    signal = resampled([1000, 2000, -1000], 50)
    np.testing.assert_allclose(signal[:6], [1.0, 1.5, 2.0, 0.5, -1.0, -0.5], rtol=1e-6)


def test_saturation_is_a_line_from_second_to_second() -> None:
    signal = resampled([1000, 3000], 1)
    np.testing.assert_allclose(signal[[0, 1, 25, 50, 99, 100]], [1.0, 1.02, 1.5, 2.0, 2.98, 3.0], rtol=1e-6)  # fmt: skip


def test_after_the_last_stored_sample_its_value_is_held() -> None:
    stored = np.full((1, SEGMENT_S), 500, np.int16)
    stored[0, -1] = 700
    signal = at_model_rate(stored, 1)[0]
    np.testing.assert_allclose(signal[5900:], 0.7, rtol=1e-6)


@pytest.mark.parametrize("rate_hz", [1, 50, 100])
def test_every_stored_sample_is_met_exactly_at_its_time(rate_hz: int) -> None:
    stored = np.random.default_rng(0).integers(-32768, 32767, (3, 60 * rate_hz), np.int16)
    signal = at_model_rate(stored, rate_hz)
    np.testing.assert_allclose(signal[:, :: 100 // rate_hz], stored / 1000, rtol=1e-6)


def test_a_night_and_its_stored_rows_give_the_same_numbers() -> None:
    one = night(without=(Modality.ECG,))
    from_night = night_batch(one, 0, 4)
    from_rows = segment_batch(segments_table(one))
    assert torch.equal(from_night.signal_SBT, from_rows.signal_SBT)
    assert torch.equal(from_night.valid_SBE, from_rows.valid_SBE)


@pytest.mark.parametrize("start", [0, 1])
def test_a_slice_of_a_night_is_that_slice_of_its_rows(start: int) -> None:
    one = night()
    rows = segments_table(one).slice(start, 2)
    part = segment_batch(rows)
    assert torch.equal(part.signal_SBT, night_batch(one, start, start + 2).signal_SBT)
    assert torch.equal(part.valid_SBE, night_batch(one, start, start + 2).valid_SBE)


def test_rows_that_lance_takes_by_position_say_which_epochs_are_usable(tmp_path: Path) -> None:
    one, uri = night(), str(tmp_path / "segments.lance")
    lance_io.commit(
        uri, lance_io.write_fragments(segments_table(one), uri, SEGMENTS), SEGMENTS, metadata={}
    )
    taken = segment_batch(lance_io.take_rows(uri, [3, 0, 1], SEGMENT_BATCH_COLUMNS))
    whole = night_batch(one, 0, 4)
    assert torch.equal(taken.signal_SBT, whole.signal_SBT[:, [3, 0, 1]])
    assert torch.equal(taken.valid_SBE, whole.valid_SBE[:, [3, 0, 1]])


def test_rows_keep_their_place_across_chunks_and_nulls() -> None:
    table = segments_table(night())
    chunks = pa.concat_tables([table.slice(2), table.slice(0, 2)])
    moved = segment_batch(chunks)  # two pieces of memory, of which one begins within another
    whole = segment_batch(table)
    assert torch.equal(moved.signal_SBT, whole.signal_SBT[:, [2, 3, 0, 1]])
    assert torch.equal(moved.valid_SBE, whole.valid_SBE[:, [2, 3, 0, 1]])


def test_an_absent_modality_is_zero_and_not_valid() -> None:
    batch = segment_batch(segments_table(night(without=(Modality.SPO2,))))
    assert not batch.valid_SBE[SPO2].any()
    assert batch.signal_SBT[SPO2].eq(0).all()
    assert batch.valid_SBE[RESP].all()


def test_a_stored_cell_that_is_null_is_not_usable_whatever_the_flags_say() -> None:
    table = segments_table(night())
    place = table.column_names.index("eeg")
    table = table.set_column(place, table.field("eeg"), pa.nulls(4, table.field("eeg").type))
    assert not segment_batch(table).valid_SBE[EEG].any()


def test_of_a_half_usable_segment_one_epoch_is_valid_and_without_any_it_is_zero() -> None:
    batch = night_batch(night(), 0, 4)
    valid = [[False, True], [False, False], [True, True], [True, True]]
    assert batch.valid_SBE[EEG].tolist() == valid
    assert batch.valid_SB[EEG].tolist() == [True, False, True, True]
    assert batch.signal_SBT[EEG, 1].eq(0).all()
    assert batch.signal_SBT[EEG, 0].ne(0).any()


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
def test_rows_take_the_places_asked_for_whichever_chunk_holds_them(chunk_rows: int) -> None:
    table = segments_table(night(num_epochs=14, without=(Modality.ECG,)))
    parts = [table.slice(first, chunk_rows) for first in range(0, 7, chunk_rows)]
    buffer, places = SegmentBuffer(9), np.array([4, 0, 8, 2, 3, 6, 5])
    buffer.put(pa.concat_tables(parts), places)
    found, whole = buffer.segments(0, 9).to_batch(torch.device("cpu")), segment_batch(table)
    assert torch.equal(found.signal_SBT[:, places], whole.signal_SBT)
    assert torch.equal(found.valid_SBE[:, places], whole.valid_SBE)


def test_a_buffer_that_is_used_again_keeps_nothing_of_before() -> None:
    one, other = segments_table(night()), segments_table(night(without=(Modality.EOG,)))
    buffer, cpu = SegmentBuffer(4), torch.device("cpu")
    buffer.put(one, np.arange(4))
    first = buffer.segments(0, 4).to_batch(cpu)
    buffer.put(other, np.arange(4))
    second = buffer.segments(0, 4).to_batch(cpu)
    assert torch.equal(first.signal_SBT, segment_batch(one).signal_SBT)
    assert torch.equal(first.valid_SBE, segment_batch(one).valid_SBE)
    assert torch.equal(second.signal_SBT, segment_batch(other).signal_SBT)
    assert torch.equal(second.valid_SBE, segment_batch(other).valid_SBE)


def test_what_is_stored_takes_a_third_of_the_bytes_the_model_reads() -> None:
    buffer = SegmentBuffer(4)
    buffer.put(segments_table(night()), np.arange(4))
    stored = buffer.segments(0, 4)
    assert sum(part.nbytes for part in stored.stored_S) == 4 * 54_120
    assert stored.to_batch(torch.device("cpu")).signal_SBT.nbytes == 4 * 144_000


def test_whatever_stands_in_the_memory_of_a_null_cell_is_not_read() -> None:
    table = segments_table(night())
    place = table.column_names.index("resp")
    cells = table.column("resp").combine_chunks()
    null = pa.array([False, True, False, True])
    masked = pa.FixedSizeListArray.from_arrays(cells.values, cells.type.list_size, mask=null)
    batch = segment_batch(table.set_column(place, table.field("resp"), masked))
    assert batch.signal_SBT[RESP, [1, 3]].eq(0).all()
    assert batch.signal_SBT[RESP, [0, 2]].ne(0).any(-1).all()
    assert batch.valid_SB[RESP].tolist() == [True, False, True, False]


def test_the_batch_counts_segments() -> None:
    batch = night_batch(night(), 0, 3)
    assert (batch.num_rows, batch.row_name) == (3, "segments")
    assert batch.signal_SBT.shape == (6, 3, 6000)
    assert batch.signal_SBT.dtype == torch.float32


# ------------------------------------------------------------------------------------ whole nights

STATISTICS = DemographicStatistics(age_mean=50.0, age_std=10.0, bmi_mean=25.0, bmi_std=5.0)


def micro_night(num_epochs: int, **changes: object) -> MicroNight:
    micro = np.random.default_rng(num_epochs).normal(size=(num_epochs, 6, 4)).astype(np.float16)
    fields: dict[str, object] = {
        "recording_id": f"night-{num_epochs}",
        "subject_id": "s",
        "cohort": "c",
        "split": "train",
        "micro": micro,
        "modality_valid": np.ones((num_epochs, 6), np.bool_),
        "age_years": 70.0,
        "sex": "female",
        "bmi": 20.0,
        "hypnogram": None,
        "source_hash": None,
        "model_id": "m",
    }
    return MicroNight(**(fields | changes))  # type: ignore[arg-type]  # fields by name


def test_nights_are_padded_with_nothing_to_the_longest() -> None:
    nights = [micro_night(3), micro_night(5)]
    batch = macro_batch(nights, STATISTICS, max_epochs=10)
    assert batch.micro_BLMD.shape == (2, 5, 6, 4)
    assert batch.length_B.tolist() == [3, 5]
    np.testing.assert_array_equal(batch.micro_BLMD[0, :3], nights[0].micro.astype(np.float32))
    assert batch.micro_BLMD[0, 3:].eq(0).all()
    assert batch.modality_valid_BLM[0].any(-1).tolist() == [True, True, True, False, False]


def test_a_longer_night_may_keep_its_first_epochs_alone() -> None:
    long = micro_night(5)
    batch = macro_batch([long, micro_night(3)], STATISTICS, max_epochs=4, crop="start")
    assert batch.length_B.tolist() == [4, 3]
    np.testing.assert_array_equal(batch.micro_BLMD[0], long.micro[:4].astype(np.float32))


def test_a_longer_night_keeps_what_is_near_either_end_each_epoch_once() -> None:
    for length in (4, 6, 8, 11):
        long = micro_night(length)
        batch = macro_batch([long], STATISTICS, max_epochs=4)
        kept = min(length, 8)
        assert batch.length_B.tolist() == [kept]
        expected = long.micro if length <= 8 else np.concatenate([long.micro[:4], long.micro[-4:]])
        np.testing.assert_array_equal(batch.micro_BLMD[0], expected.astype(np.float32))
        assert batch.modality_valid_BLM.shape == (1, kept, 6)


def test_age_and_bmi_are_in_training_set_deviations() -> None:
    nights = [micro_night(3), micro_night(3, age_years=45.0, sex="male", bmi=30.0)]
    batch = macro_batch(nights, STATISTICS, max_epochs=10)
    assert batch.age_B.tolist() == [2.0, -0.5]
    assert batch.bmi_B.tolist() == [-1.0, 1.0]
    assert batch.female_B.tolist() == [True, False]
    assert (batch.num_rows, batch.row_name) == (2, "nights")


FACTOR_COLUMNS: list[tuple[Factor, str]] = [("age", "age_years"), ("sex", "sex"), ("bmi", "bmi")]


@pytest.mark.parametrize(("name", "column"), FACTOR_COLUMNS)
def test_a_night_without_a_needed_factor_is_named(name: Factor, column: str) -> None:
    night = micro_night(3, **{column: None})
    with pytest.raises(TrainingError, match=f"night-3: found no {name}; expected .*: {name}"):
        macro_batch([night], STATISTICS, max_epochs=10, needed=(name,))
    with pytest.raises(TrainingError, match=f"found no {name}; expected .*: age, sex, bmi"):
        macro_batch([night], STATISTICS, max_epochs=10, needed=FACTORS)
    others = [other for other, _ in FACTOR_COLUMNS if other != name]
    assert macro_batch([night], STATISTICS, max_epochs=10, needed=others).num_rows == 1


def test_what_is_unknown_is_nan_and_nothing_else_is() -> None:
    nights = [micro_night(3, age_years=None, bmi=None), micro_night(3, sex=None)]
    batch = macro_batch(nights, STATISTICS, max_epochs=10)
    assert batch.age_B.isnan().tolist() == [True, False]
    assert batch.bmi_B.isnan().tolist() == [True, False]
    assert batch.female_B.isnan().tolist() == [False, True]


def test_a_value_that_the_training_set_knows_of_nobody_is_unknown() -> None:
    statistics = DemographicStatistics(age_mean=50.0, age_std=10.0, bmi_mean=None, bmi_std=None)
    batch = macro_batch([micro_night(3)], statistics, max_epochs=10, needed=("age", "sex"))
    assert batch.age_B.tolist() == [2.0]
    assert batch.bmi_B.isnan().all()


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(TrainingError, match="empty"):
        macro_batch([], STATISTICS, max_epochs=10)
