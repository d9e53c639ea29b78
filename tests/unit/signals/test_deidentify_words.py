"""Which words of a header field or an annotation stay, and how they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepmami.psg import EventKind
from sleepmami.signals.deidentify_annotations import clean_record, clean_text
from sleepmami.signals.deidentify_header import clean_prefilter, clean_transducer
from sleepmami.signals.events import event_of_text
from sleepmami.signals.stage_words import stage_of_text


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("HP:0.5Hz LP:100Hz [enhanced cassette BW]", "HP:0.5Hz LP:100Hz"),
        ("HP: DC; LP: 417 Hz", "HP:DC LP:417Hz"),
        ("BP:0.16-35Hz", "BP:0.16-35Hz"),
        ("LP:30.00Hz HP:0,30Hz NOTCH:50", "LP:30.00Hz HP:0.30Hz N:50Hz"),
        ("No filtering", "No filtering"),
        ("Room N 12, Mrs Doe LP:x", ""),
        ("HP:19510502", ""),
        ("HP:1951.0502", ""),
        ("alp:30 hp", ""),
    ],
)
def test_prefilter_keeps_what_filters_state_in_numbers(written: str, kept: str) -> None:
    assert clean_prefilter(written) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("AgAgCl electrodes", "AgCl electrodes"),
        ("Ag-AgCl cup electrodes", "AgCl cup electrodes"),
        ("Oral-nasal thermistors", "oral nasal thermistors"),
        ("thermistor of Doe, bed 7", "thermistor"),
        ("Doe_electrode", "electrode"),
    ],
)
def test_transducer_keeps_words_for_sensors(written: str, kept: str) -> None:
    assert clean_transducer(written) == kept


@pytest.mark.parametrize(
    ("text", "lasting", "written"),
    [
        ("Sleep stage W", True, "Sleep stage W"),
        ("Sleep stage 4", True, "Sleep stage 4"),
        ("S3", True, "Sleep stage 3"),
        ("n3", True, "Sleep stage N3"),
        ("Sleep stage Jane Doe", True, "Sleep stage ?"),
        ("Sleep stage R@@EEG Doe", False, "Sleep stage R"),
        ("Movement time", True, "Movement time"),
        ("LIGHTS  OFF", False, "Lights off"),
        ("Lights off, Mrs Doe", False, None),
        ("Obstructive Apnea", True, "Obstructive apnea"),
        ("hypopnea Doe", True, "Hypopnea"),
        ("R", False, None),
        ("Doe", True, None),
        ("1951", True, None),
    ],
)
def test_texts_get_their_canonical_spelling_or_go(
    text: str, lasting: bool, written: str | None
) -> None:
    found = clean_text(text, lasting)
    assert (found.canonical if found else None) == written


@pytest.mark.parametrize("kind", EventKind)
def test_canonical_and_short_events_are_read_as_what_they_were(kind: EventKind) -> None:
    found = clean_text(kind.value.replace("_", " "), True)
    assert found is not None
    assert [event_of_text(text) for text in found] == [kind, kind]


@pytest.mark.parametrize("text", ["W", "wk", "N1", "s1", "S2", "n3", "S4", "REM", "sws",
                                  "stage1", "stage 4", "Sleep stage ?", "Stadium 2", "nrem4"])  # fmt: skip
def test_canonical_and_short_stages_are_read_as_what_they_were(text: str) -> None:
    stage = stage_of_text(text, bare=True)
    assert stage is not None
    found = clean_text(text, True)
    assert found is not None
    assert [stage_of_text(spelling, bare=True) for spelling in found] == [stage, stage]
    assert len(found.short) <= max(len(text), 2)


def test_a_record_without_room_takes_short_spellings_then_drops() -> None:
    stages = b"\0".join(b"+%d\x1530\x14s%d\x14" % (30 * k, k) for k in range(1, 5))
    packed, kept, removed = clean_record(stages, keeps_time=False)
    assert packed == stages.replace(b"s", b"S")
    assert (kept, removed) == (4, 0)
    tight = b"+0\x14\x14\0+0\x151\x14A o\x14" + b"\0+9\x151\x14w\x14"
    packed, kept, removed = clean_record(tight, keeps_time=True)
    assert (len(packed), kept, removed) == (len(tight), 1, 1)
    assert packed.startswith(b"+0\x14\x14\0")


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_become_as_many_bytes_of_our_own_words(raw: bytes, keeps_time: bool) -> None:
    packed, kept, _ = clean_record(raw, keeps_time=keeps_time)
    assert len(packed) == len(raw)
    again, kept_again, removed_again = clean_record(packed, keeps_time=keeps_time)
    assert (again, kept_again, removed_again) == (packed, kept, 0)
