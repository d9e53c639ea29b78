"""Samples and annotations of discontinuous recordings against times known beforehand."""

import io
import random
import tracemalloc
from collections.abc import Sequence
from fractions import Fraction

import edfio
import numpy as np
import pytest

from sleepmami.errors import RecordingError
from sleepmami.signals.edf import Annotation, EdfFile, open_edf
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16, int24

RATE_HZ = 100


def tal(onset_s: float, *more: bytes) -> bytes:
    return b"+%.6f\x14\x14\0" % onset_s + b"".join(more)


def ramp(num_records: int, per_record: int) -> RawSignal:
    """Every sample holds its own number, counted over the recorded samples alone."""
    values = np.arange(num_records * per_record).reshape(num_records, per_record)
    return RawSignal([row.astype("<i2").tobytes() for row in values])


def recording(onsets_s: Sequence[float], *signals: RawSignal, **fields: str) -> EdfFile:
    tals = annotation_signal(*map(tal, onsets_s))
    fields = {"reserved": "EDF+D", **fields}
    return open_edf(RawEdf([*signals, tals], **fields).to_bytes())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- truth


def test_a_pulse_and_its_annotation_after_a_gap_share_their_exact_place() -> None:
    # The clock of the file starts 0.25 s before the first sample; 7 s are missing after record 4.
    onsets_s = [0.25 + k + (7 if k >= 5 else 0) for k in range(10)]
    samples = np.zeros((10, RATE_HZ), dtype="<i2")
    samples[8, 37] = 1000  # at onset 15.25 + 0.37 by the clock, 15.37 s after the first sample
    pulse = RawSignal([row.tobytes() for row in samples])
    tals = annotation_signal(
        *(tal(t, b"+15.62\x140.5\x14Pulse\x14\0" if t == 0.25 else b"") for t in onsets_s)
    )
    file = open_edf(RawEdf([pulse, tals], reserved="EDF+D").to_bytes())
    (onset_s,) = {a.onset_s for a in file.annotations() if a.text == "Pulse"}
    assert np.flatnonzero(file.digital(file.channels[0])).tolist() == [1537]
    assert onset_s == pytest.approx(15.37, abs=1e-9)
    assert (file.duration_s, file.gaps) == (17.0, ((5.0, 12.0),))


def test_every_sample_lies_within_half_a_sample_of_its_time() -> None:
    rng = random.Random(1)
    duration, num_records = Fraction(7, 10), 60
    rates = {77: Fraction(110), 7: Fraction(10), 1: Fraction(10, 7)}  # samples per record -> Hz
    delay_s, onsets_s = 0.0, []
    for record in range(num_records):
        delay_s += rng.choice((0, 0, rng.uniform(0.006, 3)))  # parts of samples and of records
        onsets_s.append(round(3.5 + float(record * duration) + delay_s, 6))
    signals = [ramp(num_records, count) for count in rates]
    file = recording(onsets_s, *signals, record_duration="0.7")
    assert len(file.gaps) > 20
    for channel, (count, rate_hz) in zip(file.channels, rates.items(), strict=True):
        digital = file.digital(channel)
        values, places = np.unique(digital, return_index=True)  # the filler repeats: first is it
        assert values.tolist() == list(range(num_records * count))
        true_s = np.repeat(onsets_s, count) - 3.5 + np.tile(np.arange(count), num_records) / float(rate_hz)  # fmt: skip
        assert np.abs(places - true_s * float(rate_hz)).max() <= 0.5 + 1e-6
        assert len(digital) == pytest.approx(file.duration_s * float(rate_hz), abs=0.5 + 1e-6)


def test_gaps_shorter_than_a_slow_signals_sample_add_up() -> None:
    onsets_s = [k * 1.3 for k in range(11)]  # 0.3 s missing after every record
    file = recording(onsets_s, ramp(11, 100), ramp(11, 1))
    slow = file.digital(file.channels[1])
    # at 0, 1.3, 2.6, 3.9, 5.2, 6.5 (half up: 7), 7.8, 9.1, 10.4, 11.7 and 13 s
    first_places = np.unique(slow, return_index=True)[1].tolist()
    assert first_places == [0, 1, 3, 4, 5, 7, 8, 9, 10, 12, 13]
    assert len(file.gaps) == 10
    assert file.duration_s == pytest.approx(14.0)


def test_runs_hold_what_a_reader_blind_to_gaps_reads_in_one_piece() -> None:
    onsets_s = [0, 1, 2, 10, 11, 15.5]
    values = np.random.default_rng(0).integers(-90, 90, (6, RATE_HZ)).astype("<i2")
    signal = RawSignal([row.tobytes() for row in values])
    tals = annotation_signal(*map(tal, onsets_s))
    raw = RawEdf([signal, tals], reserved="EDF+D").to_bytes()
    file = open_edf(raw)
    theirs = edfio.read_edf(io.BytesIO(raw)).signals[0].digital
    ours = file.digital(file.channels[0])
    recorded = np.ones(len(ours), dtype=bool)
    for start_s, stop_s in file.gaps:
        recorded[round(start_s * RATE_HZ) : round(stop_s * RATE_HZ)] = False
    np.testing.assert_array_equal(ours[recorded], theirs)
    assert file.gaps == ((3.0, 10.0), (12.0, 15.5))


# ---------------------------------------------------------------------------------------- the filler


def test_a_gap_repeats_the_last_sample_before_it() -> None:
    file = recording([0, 3], RawSignal([int16(1, -2), int16(3, -4)]))
    assert file.digital(file.channels[0]).tolist() == [1, -2, -2, -2, -2, -2, 3, -4]
    assert file.physical(file.channels[0]).tolist() == [1, -2, -2, -2, -2, -2, 3, -4]


def test_gaps_of_24_bit_files_are_filled_alike() -> None:
    signal = RawSignal([int24(-8388608), int24(5)], digital_min="-8388608", digital_max="8388607")
    tals = RawSignal([tal(0).ljust(30, b"\0"), tal(2).ljust(30, b"\0")], label="BDF Annotations")
    raw = RawEdf([signal, tals], version=b"\xffBIOSEMI", reserved="BDF+D").to_bytes()
    file = open_edf(raw)
    assert file.digital(file.channels[0]).tolist() == [-8388608, -8388608, 5]
    assert file.digital(file.channels[0]).dtype == np.int32


def test_a_signal_without_samples_stays_empty() -> None:
    file = recording([0, 3], RawSignal([b"", b""]), ramp(2, 2))
    assert [len(file.digital(channel)) for channel in file.channels] == [0, 8]


def test_samples_of_a_gapped_file_can_be_changed_without_changing_the_file() -> None:
    file = recording([0, 3], ramp(2, 2))
    file.digital(file.channels[0])[:] = 9
    assert file.digital(file.channels[0]).tolist() == [0, 1, 1, 1, 1, 1, 2, 3]


# ------------------------------------------------------------------------------- whose word is taken


def test_contiguous_records_of_a_discontinuous_file_are_joined() -> None:
    for onsets_s in ([0, 1, 2], [5.5, 6.5, 7.5004]):
        file = recording(onsets_s, ramp(3, 1))
        assert (file.duration_s, file.gaps, file.notes) == (3.0, (), ())


@pytest.mark.parametrize("reserved", ["EDF+C", ""])
def test_a_gap_shows_whatever_the_header_claims(reserved: str) -> None:
    file = recording([0, 1, 9], ramp(3, 1), reserved=reserved)
    assert file.gaps == ((2.0, 9.0),)
    assert file.notes == ("not continuous as claimed; gaps by its own onsets: 1",)


def test_a_plain_edf_without_annotations_is_continuous_without_a_note() -> None:
    file = open_edf(RawEdf([ramp(3, 2)]).to_bytes())
    assert (file.duration_s, file.gaps, file.notes) == (3.0, (), ())


def test_an_edf_plus_without_annotations_is_continuous_with_a_note() -> None:
    file = open_edf(RawEdf([ramp(3, 2)], reserved="EDF+C").to_bytes())
    assert file.notes == ("no data record with an onset; taken as continuous",)


def test_only_the_first_annotation_signal_keeps_time() -> None:
    other = annotation_signal(tal(0), tal(77), tal(5))
    raw = RawEdf([ramp(3, 1), annotation_signal(tal(0), tal(1), tal(2)), other], reserved="EDF+D")
    assert open_edf(raw.to_bytes()).gaps == ()


def test_a_later_annotation_signal_keeps_time_when_the_first_does_not() -> None:
    first, later = annotation_signal(b"", b"+1\x14Mark\x14\0"), annotation_signal(tal(0), tal(9))
    raw = RawEdf([ramp(2, 1), first, later], reserved="EDF+D")
    assert open_edf(raw.to_bytes()).gaps == ((1.0, 9.0),)


@pytest.mark.parametrize("onsets_s", [[0, 0.5, 1], [0, 2, 1], [5, 1, 2]])
def test_records_that_overlap_or_run_backwards_are_refused(onsets_s: list[float]) -> None:
    with pytest.raises(RecordingError, match="discontinuous_recording"):
        recording(onsets_s, ramp(3, 100))


def test_discontinuous_format_without_onsets_is_refused() -> None:
    with pytest.raises(RecordingError, match="no data record with an onset"):
        open_edf(RawEdf([ramp(2, 2)], reserved="EDF+D").to_bytes())


def test_annotations_only_files_have_no_gaps() -> None:
    tals = annotation_signal(tal(0, b"+900\x1530\x14Sleep stage R\x14\0"), tal(500))
    file = open_edf(RawEdf([tals], reserved="EDF+D", record_duration="0").to_bytes())
    assert (file.gaps, file.duration_s) == ((), 0.0)
    assert file.annotations() == [Annotation(900.0, 30.0, "Sleep stage R")]


def test_missing_records_at_the_end_are_no_gap() -> None:
    tals = annotation_signal(tal(0), tal(4), tal(5))
    raw = RawEdf([ramp(3, 1), tals], reserved="EDF+D").to_bytes()[:-1]
    file = open_edf(raw, truncated="keep")
    assert (file.gaps, file.duration_s) == (((1.0, 4.0),), 5.0)


@pytest.mark.parametrize("last_s", [100.0, 1e9, 1e22])
def test_a_span_of_mostly_nothing_is_refused_before_anything_is_allocated(last_s: float) -> None:
    raw = RawEdf([ramp(2, 1000), annotation_signal(tal(0), tal(last_s))], reserved="EDF+D").to_bytes()  # fmt: skip
    tracemalloc.start()
    with pytest.raises(RecordingError, match="at least 10% of the time"):
        open_edf(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
