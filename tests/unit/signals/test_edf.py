import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals import edf
from sleepmami.signals.edf import Annotation, EdfFile, open_edf
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16, int24

TWO_RECORDS = RawSignal([int16(1, -2), int16(3, -4)])


def refusal(source: str | Path | bytes, **options: str) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        open_edf(source, **options)  # type: ignore[arg-type]  # truncated comes as plain str
    return caught.value


def opened(*signals: RawSignal, **fields: object) -> EdfFile:
    return open_edf(RawEdf(signals, **fields).to_bytes())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- samples and scale


def test_samples_of_interleaved_records_come_in_time_order() -> None:
    other = RawSignal([int16(7), int16(8)], label="ECG")
    file = opened(TWO_RECORDS, other)
    assert file.digital(file.channels[0]).tolist() == [1, -2, 3, -4]
    assert file.digital(file.channels[1]).tolist() == [7, 8]
    assert [c.sample_rate_hz for c in file.channels] == [2.0, 1.0]
    assert (file.num_records, file.record_duration_s, file.duration_s) == (2, 1.0, 2.0)


def test_bdf_samples_are_signed_24_bit() -> None:
    values = (0, 1, -1, 8388607, -8388608)
    signal = RawSignal([int24(*values)], digital_min="-8388608", digital_max="8388607")
    file = opened(signal, version=b"\xffBIOSEMI")
    digital = file.digital(file.channels[0])
    assert digital.dtype == np.int32
    assert digital.tolist() == list(values)


def test_physical_values_map_the_digital_limits_to_the_physical_limits() -> None:
    signal = RawSignal([int16(-8, 7, 0)], physical_min="-10", physical_max="20", digital_min="-8", digital_max="7")  # fmt: skip
    file = opened(signal)
    channel = file.channels[0]
    assert (channel.gain, channel.offset) == (2.0, 6.0)  # 30 units over 15 steps; -10 + 8 * 2
    assert file.physical(channel).tolist() == [-10.0, 20.0, 6.0]
    assert file.physical(channel).dtype == np.float32


def test_inverted_physical_limits_give_a_negative_gain() -> None:
    signal = RawSignal([int16(50)], physical_min="100", physical_max="-100")
    file = opened(signal)
    assert file.channels[0].gain == -1.0
    assert file.physical(file.channels[0]).tolist() == [-50.0]


def test_returned_samples_can_be_changed_without_changing_the_file() -> None:
    file = opened(TWO_RECORDS)
    file.digital(file.channels[0])[:] = 0
    assert file.digital(file.channels[0]).tolist() == [1, -2, 3, -4]


def test_a_large_offset_keeps_float32_precision() -> None:
    limits = {"physical_min": "175921", "physical_max": "175946"}
    signal = RawSignal([int16(12345)], digital_min="-32768", digital_max="32767", **limits)
    file = opened(signal)
    exact = 175921 + (12345 + 32768) * 25 / 65535
    assert file.physical(file.channels[0])[0] == np.float32(exact)


@pytest.mark.parametrize(
    "limits",
    [
        {"digital_min": "5", "digital_max": "5"},
        {"physical_min": "0", "physical_max": "0"},
        {"physical_min": ""},
        {"physical_max": "nan"},
        {"physical_max": "1e99"},
        {"digital_max": "abc"},
        {"digital_max": "1e308"},
    ],
)
def test_limits_without_a_scale_give_a_constant_channel_and_a_note(limits: dict[str, str]) -> None:
    file = opened(replace(TWO_RECORDS, **limits))
    channel = file.channels[0]
    assert channel.gain == 0.0
    assert np.ptp(file.physical(channel)) == 0.0
    assert file.notes == ("signal 0: the limits give no scale",)


def test_digital_limits_may_leave_16_bit_and_decimals_may_have_commas() -> None:
    signal = RawSignal([int16(0)], digital_min="-40000", digital_max="40000.0", physical_max="0,5", physical_min="-0,5")  # fmt: skip
    file = opened(signal)
    assert file.channels[0].gain == 1 / 80000
    assert file.notes == ()


# ------------------------------------------------------------------------------------------ header


@pytest.mark.parametrize(
    ("samples", "duration", "rate_hz"),
    [(77, "0.7", 110.0), (25, "0,1", 250.0), (3000, "30.00", 100.0), (1, "86400.00", 1 / 86400)],
)
def test_sample_rate_is_exact_for_fractional_record_durations(
    samples: int, duration: str, rate_hz: float
) -> None:
    file = opened(RawSignal([int16(*[0] * samples)]), record_duration=duration)
    assert file.channels[0].sample_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("raw", "unit"),
    [
        (b"\xb5V", "uV"),
        ("\u00b5V".encode(), "uV"),
        ("\u03bcV".encode(), "uV"),
        (b"\xb0C", "\u00b0C"),
    ],
)
def test_every_micro_sign_reads_as_u(raw: bytes, unit: str) -> None:
    assert opened(replace(TWO_RECORDS, unit=raw)).channels[0].unit == unit


def test_labels_are_printable_text_whatever_their_bytes() -> None:
    labels = (b"  EEG\xe9\x01 ", "\u8111".encode(), b"A\0rubbish", b"\xff\xfe")
    file = opened(*(replace(TWO_RECORDS, label=label) for label in labels))
    assert [c.label for c in file.channels] == ["EEG\u00e9?", "\u8111", "A", "\u00ff\u00fe"]


def test_duplicate_labels_stay_apart_by_index() -> None:
    file = opened(replace(TWO_RECORDS, records=[int16(1), int16(2)]), TWO_RECORDS)
    assert [c.index for c in file.channels] == [0, 1]
    assert file.digital(file.channels[0]).tolist() == [1, 2]


def test_channel_index_counts_annotation_signals() -> None:
    file = opened(annotation_signal(b"+0\x14\x14", b"+1\x14\x14"), TWO_RECORDS, reserved="EDF+C")
    assert [c.index for c in file.channels] == [1]
    assert file.digital(file.channels[0]).tolist() == [1, -2, 3, -4]


def test_patient_data_is_in_no_attribute() -> None:
    file = opened(TWO_RECORDS, patient="MCH-0234567 F 02-MAY-1951 Haagse_Harry")
    assert "Haagse" not in repr(vars(file))


# ----------------------------------------------------------------------------- length of the file


def test_unknown_number_of_records_comes_from_the_size() -> None:
    file = opened(TWO_RECORDS, num_records="-1", tail=b"\1\2\3")
    assert file.num_records == 2
    assert "2 by the file's size" in file.notes[0]
    assert file.notes[1] == "3 trailing bytes ignored"


def test_truncated_file_is_refused_with_both_sizes() -> None:
    raw = RawEdf([TWO_RECORDS]).to_bytes()[:-1]
    error = refusal(raw)
    assert error.code == RecordingCode.TRUNCATED_RECORDING
    assert (error.found, error.expected) == ("519 bytes, 1 of 2 data records", "520 bytes")


def test_truncated_file_keeps_its_whole_records_when_asked() -> None:
    file = open_edf(RawEdf([TWO_RECORDS]).to_bytes()[:-1], truncated="keep")
    assert file.digital(file.channels[0]).tolist() == [1, -2]
    assert file.notes[0] == "truncated: 1 of 2 data records are there"


def test_trailing_bytes_are_ignored_with_a_note() -> None:
    file = opened(TWO_RECORDS, tail=b"abcde")
    assert file.digital(file.channels[0]).tolist() == [1, -2, 3, -4]
    assert file.notes == ("5 trailing bytes ignored",)


@pytest.mark.parametrize(
    ("declared", "noted"),
    [("1", "2, not 1"), ("0", "no number of data"), (" ", "no number of data")],
)
def test_records_beyond_the_declared_number_are_not_lost(declared: str, noted: str) -> None:
    file = opened(TWO_RECORDS, num_records=declared)  # a recorder that was never told to stop
    assert file.digital(file.channels[0]).tolist() == [1, -2, 3, -4]
    assert noted in file.notes[0]


def test_a_trailer_of_another_length_is_no_record() -> None:
    file = opened(TWO_RECORDS, num_records="1", tail=b"x")  # 5 bytes follow, a record has 4
    assert file.digital(file.channels[0]).tolist() == [1, -2]
    assert file.notes == ("5 trailing bytes ignored",)


@pytest.mark.parametrize(("last", "num_records"), [(b"+2\x14\x14\0", 3), (b"", 1)])
def test_records_beyond_the_declared_number_need_onsets_where_there_are_any(
    last: bytes, num_records: int
) -> None:
    samples = RawSignal([int16(1)] * 3)
    tals = annotation_signal(b"+0\x14\x14\0", b"+1\x14\x14\0", last)
    for reserved in ("EDF+C", "EDF+D"):
        raw = RawEdf([samples, tals], num_records="1", reserved=reserved).to_bytes()
        assert open_edf(raw).num_records == num_records


@pytest.mark.parametrize("fields", [{"num_records": "0"}, {"num_records": "99999999"}])
def test_keep_still_needs_one_whole_record(fields: dict[str, str]) -> None:
    raw = RawEdf([TWO_RECORDS], **fields).to_bytes()[:515]  # type: ignore[arg-type]
    assert refusal(raw, truncated="keep").code == RecordingCode.TRUNCATED_RECORDING


def test_wrong_header_length_is_forgiven_only_when_the_size_fits() -> None:
    assert "its own length" in opened(TWO_RECORDS, header_bytes="9999").notes[0]
    raw = RawEdf([TWO_RECORDS], header_bytes="9999", tail=b"x").to_bytes()
    assert refusal(raw).code == RecordingCode.HEADER_INVALID


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"num_signals": "0"}, "number of signals '0'"),
        ({"num_signals": "513"}, "number of signals '513'"),
        ({"num_signals": "9999"}, "number of signals '9999'"),
        ({"num_records": "-2"}, "number of records '-2'"),
        ({"num_records": "1_0"}, "number of records '1_0'"),
        ({"record_duration": "-1"}, "record duration '-1'"),
        ({"record_duration": "inf"}, "record duration 'inf'"),
        ({"record_duration": "1e-300"}, "record duration '1e-300'"),
        ({"record_duration": "0.000001"}, "signal 0 at 2e+06 Hz"),
    ],
)
def test_impossible_header_numbers_are_named(fields: dict[str, str], found: str) -> None:
    error = refusal(RawEdf([TWO_RECORDS], **fields).to_bytes(), name="night.edf")  # type: ignore[arg-type]
    assert (error.code, error.file, error.found) == ("header_invalid", "night.edf", found)


@pytest.mark.parametrize("count", ["-1", "abc", "1.5", ""])
def test_impossible_samples_per_record_are_refused(count: str) -> None:
    signal = replace(TWO_RECORDS, samples_per_record=count or " ")
    assert refusal(RawEdf([signal]).to_bytes()).code == RecordingCode.HEADER_INVALID


@pytest.mark.parametrize("count", ["99999999", "50000000"])
def test_a_declared_size_beyond_the_file_allocates_nothing(count: str) -> None:
    raw = RawEdf([replace(TWO_RECORDS, samples_per_record=count)], record_duration="100").to_bytes()
    assert refusal(raw, truncated="keep").code == RecordingCode.TRUNCATED_RECORDING


# -------------------------------------------------------------------------------------- not an EDF


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n", "Git LFS"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"<?xml version='1.0'?>", "markup"),
        (b"\x89PNG\r\n\x1a\n", "first bytes"),
        (b"0", "first bytes"),
    ],
)
def test_other_files_are_named_for_what_they_are(content: bytes, found: str) -> None:
    error = refusal(content)
    assert error.code == RecordingCode.NOT_AN_EDF
    assert found in error.found


@pytest.mark.parametrize("size", [8, 255, 256, 511])
def test_a_file_ending_in_its_header_is_truncated(size: int) -> None:
    assert refusal(RawEdf([TWO_RECORDS]).to_bytes()[:size]).code == RecordingCode.TRUNCATED_RECORDING  # fmt: skip


def test_folders_links_and_missing_files_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "link.edf").symlink_to(tmp_path / "gone.edf")
    os.mkfifo(tmp_path / "pipe.edf")
    cases = {
        tmp_path: "a folder",
        tmp_path / "link.edf": "a broken link",
        tmp_path / "missing.edf": "no such file",
        tmp_path / "pipe.edf": "not a regular file",
        tmp_path / "a\0b.edf": "embedded null byte",
    }
    assert {path: refusal(path).found for path in cases} == cases
    assert refusal(tmp_path).code == RecordingCode.UNREADABLE


def test_errors_name_the_path_as_the_user_gave_it(tmp_path: Path) -> None:
    (tmp_path / "empty.edf").touch()
    assert refusal(str(tmp_path / "empty.edf")).file == str(tmp_path / "empty.edf")


# --------------------------------------------------------------------- annotations and continuity


def test_annotations_of_all_records_and_signals_are_read() -> None:
    first = annotation_signal(b"+0\x14\x14\0+0.5\x1530\x14Sleep stage W\x14Lights off\x14\0", b"+1\x14\x14\0+1,5\x14\xe4\xbb\xb0\x14")  # fmt: skip
    second = annotation_signal(b"-1.25\x150.25\x14early\x14\0", b"")
    file = opened(first, TWO_RECORDS, second, reserved="EDF+C")
    assert file.annotations() == [
        Annotation(-1.25, 0.25, "early"),
        Annotation(0.5, 30.0, "Sleep stage W"),
        Annotation(0.5, 30.0, "Lights off"),
        Annotation(1.5, 0.0, "\u4ef0"),
    ]


def test_annotation_onsets_count_from_the_first_sample() -> None:
    tals = annotation_signal(b"+0.25\x14\x14\0+10.25\x14x\x14\0", b"+1.25\x14\x14\0")
    assert opened(tals, TWO_RECORDS, reserved="EDF+C").annotations() == [Annotation(10.0, 0.0, "x")]


def test_a_first_event_that_is_no_time_keeping_does_not_move_the_origin() -> None:
    tals = annotation_signal(b"+10\x14x\x14\0", b"")
    assert opened(tals, TWO_RECORDS, reserved="EDF+C").annotations() == [Annotation(10.0, 0.0, "x")]


def test_malformed_annotations_are_left_out() -> None:
    tals = annotation_signal(b"+0\x14\x14\0rubbish\0+x\x14a\x14\0\x14\x14\0+5\x14kept\x14\0", b"")
    assert [a.text for a in opened(tals, TWO_RECORDS, reserved="EDF+C").annotations()] == ["kept"]


def test_files_of_annotations_only_have_no_duration() -> None:
    tals = annotation_signal(b"+0\x14\x14\0+30630\x15120\x14Sleep stage 1\x14\0")
    file = opened(tals, reserved="EDF+C", record_duration="0")
    assert (file.channels, file.duration_s) == ((), 0.0)
    assert file.annotations() == [Annotation(30630.0, 120.0, "Sleep stage 1")]


def test_a_signal_without_record_duration_has_no_rate() -> None:
    file = opened(TWO_RECORDS, annotation_signal(b"+0\x14\x14", b"+0\x14\x14"), reserved="EDF+D", record_duration="0")  # fmt: skip
    assert file.channels[0].sample_rate_hz == 0.0


@pytest.mark.parametrize(("limit", "value"), [("MAX_ANNOTATIONS", 2), ("MAX_LISTS", 2)])
def test_more_annotations_than_a_night_can_have_are_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(edf, limit, value)
    two, three = (opened(annotation_signal(b"+0\x14a\x14\0" * n)) for n in (2, 3))
    assert len(two.annotations()) == 2
    with pytest.raises(RecordingError, match="recording_too_large"):
        three.annotations()


# -------------------------------------------------------------------------------------- any bytes


def test_random_damage_raises_nothing_but_recording_errors() -> None:
    rng = random.Random(20260210)
    tals = annotation_signal(b"+0\x14\x14\0+0\x1530\x14Sleep stage W\x14\0", b"+1\x14\x14\0")
    base = RawEdf([TWO_RECORDS, tals, TWO_RECORDS], reserved="EDF+D").to_bytes()
    outcomes = set()
    for _ in range(600):
        damaged = bytearray(base)
        for _ in range(rng.randint(1, 6)):
            place = rng.choice((rng.randrange(len(base)), rng.randrange(184, 256), rng.randrange(256, 1024)))  # fmt: skip
            damaged[place] = rng.choice(b"\x00\x14 +-.,019Ee\xff")
        del damaged[rng.choice((len(base), rng.randrange(len(base)))) :]
        try:
            file = open_edf(bytes(damaged), truncated="keep")
            assert all(np.isfinite(file.physical(c)).all() for c in file.channels)
            file.annotations()
            outcomes.add("ok")
        except RecordingError as error:
            outcomes.add(error.code)
    assert outcomes == {"ok", "not_an_edf", "header_invalid", "truncated_recording", "discontinuous_recording"}  # fmt: skip


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        (b"22.30.05", 81005),
        (b"22:30:05", 81005),
        (b"00.00.00", None),  # blanked by de-identification
        (b"24.00.00", None),
        (b"xx.yy.zz", None),
    ],
)
def test_the_clock_is_read_and_a_blanked_one_is_none(clock: bytes, seconds: int | None) -> None:
    raw = RawEdf([RawSignal([int16(1, 2)])], clock=clock)
    assert open_edf(raw.to_bytes(), name="a.edf").clock_s == seconds
