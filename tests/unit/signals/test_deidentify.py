"""A clean copy names nobody, and is the same recording."""

import glob
import io
import os
import re
import tracemalloc
from pathlib import Path

import edfio
import numpy as np
import pyedflib
import pyedflib.highlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.config import PreprocessConfig
from sleepmami.errors import ConfigError, RecordingError
from sleepmami.psg import Decision, Modality, Stage
from sleepmami.signals import deidentify as module
from sleepmami.signals.deidentify import Deidentified, deidentify
from sleepmami.signals.edf import open_edf
from sleepmami.signals.inspect import inspect_file
from sleepmami.signals.preprocess import load_night
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal, int16, int24

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
NAME = "Zqxvarga"
FIELDS = {  # of a signal: offset of the first, width; times the number of signals
    "label": (0, 16), "transducer": (16, 80), "unit": (96, 8), "physical_min": (104, 8),
    "physical_max": (112, 8), "digital_min": (120, 8), "digital_max": (128, 8),
    "prefilter": (136, 80), "samples_per_record": (216, 8), "reserved": (224, 32),
}  # fmt: skip


def planted(data: bytes, text: bytes, *, at: int) -> bytes:
    return data[:at] + text + data[at + len(text) :]


def in_signal(data: bytes, field: str, text: str, *, signal: int = 0) -> bytes:
    count = int(data[252:256])
    offset, width = FIELDS[field]
    raw = text.encode("latin-1").ljust(width)
    assert len(raw) == width
    return planted(data, raw, at=256 + offset * count + width * signal)


def field_of(data: bytes, field: str, *, signal: int = 0) -> str:
    count = int(data[252:256])
    offset, width = FIELDS[field]
    start = 256 + offset * count + width * signal
    return data[start : start + width].decode("ascii").strip()


def clean(data: bytes, *, keep_clock: bool = True) -> bytes:
    stream = io.BytesIO()
    deidentify(data, stream, keep_clock=keep_clock)
    return stream.getvalue()


def plus(*tals: bytes, width: int = 120, bdf: bool = False) -> bytes:
    """EDF+C or BDF+C of one EEG at 2 Hz and one annotation signal."""
    numbers = [int24(1, 2), int24(3, -4)] if bdf else [int16(1, 2), int16(3, -4)]
    records = [numbers[k % 2] for k in range(len(tals))]
    kind = "BDF" if bdf else "EDF"
    return RawEdf(
        [RawSignal(records), annotation_signal(*tals, width=width, label=f"{kind} Annotations")],
        version=b"\xffBIOSEMI" if bdf else b"0       ",
        reserved=f"{kind}+C",
    ).to_bytes()


def texts(data: bytes) -> list[tuple[float, float, str]]:
    return [(a.onset_s, a.duration_s, a.text) for a in open_edf(data).annotations()]


# ----------------------------------------------------------------------------------- nothing stays


def spellings(name: str) -> list[bytes]:
    cases = (name, name.upper(), name.lower())
    return [case.encode(code) for case in cases for code in ("utf-8", "latin-1", "utf-16-le")]


def everywhere(name: str, *, bdf: bool = False) -> bytes:
    """A recording with a name wherever one fits."""
    raw = name.encode()
    data = plus(
        b"+0\x14\x14" + raw + b"\x14\0+0.1\x15" + b"1\x14Arousal " + raw + b"\x14\0",
        b"+1\x14\x14\0+1.5\x14" + name.encode("latin-1") + b"\x14Hypopnea@@" + raw + b"\x14",
        b"+2\x14\x14\0" + raw,  # no time-stamped list
        b"+3\x14\x14\0+3\x14" + raw.ljust(111, b"x"),  # runs to the end of its record
        bdf=bdf,
    )
    for at, width in ((8, 80), (88, 80), (192 + 5, 39)):
        data = planted(data, raw.ljust(width), at=at)
    data = planted(data, b"13.07.71", at=168)
    for signal in (0, 1):
        data = in_signal(
            data, "transducer", f"AgAgCl electrode {name} {name.upper()}", signal=signal
        )
        data = in_signal(data, "prefilter", f"HP:0.3Hz {name} LP:35Hz", signal=signal)
        data = in_signal(data, "reserved", name, signal=signal)
    data = in_signal(data, "label", f"EEG {name}"[:16])
    data = in_signal(data, "unit", name[:8])
    data = in_signal(data, "physical_min", name[:8], signal=1)
    return data + raw


@pytest.mark.parametrize("bdf", [False, True])
def test_a_name_in_every_place_is_nowhere_in_the_copy(bdf: bool) -> None:
    data = everywhere(NAME, bdf=bdf)
    assert sum(data.lower().count(s.lower()) for s in set(spellings(NAME))) > 15
    copy = clean(data)
    assert [s for s in spellings(NAME) if s[:7].lower() in copy.lower()] == []
    assert b"13.07.71" not in copy
    assert texts(copy) == [(0.1, 1.0, "Arousal"), (1.5, 0.0, "Hypopnea")]


@settings(max_examples=40, deadline=None)
@given(
    st.text("bcdfghjklmnpqrstvwxz\u00e9\u00fc\u00f8 -'", min_size=8, max_size=16).filter(
        lambda name: re.search(r"[^\W_]{5}", name) is not None
    )
)
def test_no_made_up_name_stays(name: str) -> None:
    name = max(re.findall(r"[^\W_]+", name), key=len)
    copy = clean(everywhere(name[:12]))
    for spelling in spellings(name[:12]):
        assert spelling.lower() not in copy.lower()


def test_other_tools_leave_names_that_ours_removes(tmp_path: Path) -> None:
    tokens = {kind: f"zq{kind}" for kind in
              ("code", "name", "admin", "technician", "transducer", "prefilter", "annotation")}  # fmt: skip
    data = plus(
        b"+0\x14\x14\0+0.5\x14" + tokens["annotation"].encode() + b"\x14",
        *(b"+%d\x14\x14" % second for second in (1, 2, 3)),
    )
    patient = f"{tokens['code']} F 02-MAY-1951 {tokens['name']}"
    recording = f"Startdate 01-JAN-1985 {tokens['admin']} {tokens['technician']} X"
    data = planted(data, b"22.41.07", at=176)
    data = planted(data, patient.encode().ljust(80), at=8)
    data = planted(data, recording.encode().ljust(80), at=88)
    data = in_signal(data, "transducer", tokens["transducer"])
    data = in_signal(data, "prefilter", tokens["prefilter"])
    original = tmp_path / "original.edf"
    original.write_bytes(data)

    pyedflib.highlevel.anonymize_edf(str(original), str(tmp_path / "pyedflib.edf"))
    other = edfio.read_edf(original)
    other.anonymize()
    other.write(tmp_path / "edfio.edf")
    deidentify(original, tmp_path / "ours.edf")

    def left(file: str) -> int:
        return sum(token.encode() in (tmp_path / file).read_bytes() for token in tokens.values())

    measured = {tool: left(f"{tool}.edf") for tool in ("pyedflib", "edfio", "ours")}
    assert left("original.edf") == 7
    assert measured["ours"] == 0
    assert min(measured["pyedflib"], measured["edfio"]) >= 3  # docs/privacy.md says how many


def test_header_slack_and_numbers_in_words_are_written_anew() -> None:
    data = RawEdf([RawSignal([int16(5, 6)])], num_records="-1", tail=b"Zqx").to_bytes()
    data = in_signal(data, "physical_max", "100\0Zqx")
    copy = clean(data)
    assert b"Zqx" not in copy
    assert len(copy) == 512 + 4
    names = b"0       " + b"X X X X".ljust(80) + b"Startdate X X X X".ljust(80)
    assert copy[:192] == names + b"01.01.8500.00.00" + b"512".ljust(8)
    assert copy[192:256] == b" " * 44 + b"1".ljust(8) + b"1".ljust(8) + b"1".ljust(4)
    assert field_of(copy, "physical_max") == "100"


def test_text_in_a_signal_with_a_misspelled_label_goes_too() -> None:
    tals = (
        b"+0\x14\x14\0+0\x14" + NAME.encode() + b"\x14",
        b"",
        b"+2\x14" + NAME.encode() + b"\x14",
    )
    signal = annotation_signal(*tals, label="EDF Annotation")
    copy = clean(RawEdf([RawSignal([int16(1, 2)] * 3), signal]).to_bytes())
    assert NAME.encode() not in copy
    assert [channel.label for channel in open_edf(copy).channels] == ["EEG C4-M1", "channel"]


def test_samples_that_begin_like_text_stay() -> None:
    likeness = b"+0\x14\x14" + bytes(range(28))
    data = RawEdf(
        [RawSignal([likeness, likeness]), RawSignal([b"+0\x14\x14", b"-1\x14 "])]
    ).to_bytes()
    assert clean(data)[768:] == data[768:]


# ------------------------------------------------------------------------------- what is kept, is right


def test_the_clock_stays_and_the_date_goes() -> None:
    data = RawEdf([RawSignal([int16(1)])], clock=b"22:41:07").to_bytes()
    data = planted(data, b"13.07.71", at=168)
    assert clean(data)[168:184] == b"01.01.8522.41.07"
    assert clean(data, keep_clock=False)[168:184] == b"01.01.8500.00.00"


def test_a_name_in_the_clock_goes() -> None:
    data = RawEdf([RawSignal([int16(1)])], clock=b"Zqxvarga").to_bytes()
    assert clean(data)[176:184] == b"00.00.00"


def test_record_onsets_of_a_discontinuous_file_stay() -> None:
    data = plus(b"+0.25\x14\x14Doe\x14", b"+7,25\x14\x14\0+8\x1510\x14Apnea Doe\x14")
    data = planted(data, b"EDF+D", at=192)
    copy = clean(data)
    assert copy[192:236].rstrip() == b"EDF+D"
    assert open_edf(copy).gaps == open_edf(data).gaps == ((1.0, 7.0),)
    assert texts(copy) == [(7.75, 10.0, "Apnea")]


def test_unusable_limits_give_no_scale_afterwards_either() -> None:
    data = in_signal(RawEdf([RawSignal([int16(1, 2)])]).to_bytes(), "physical_min", "low")
    (channel,) = open_edf(clean(data)).channels
    assert channel.gain == open_edf(data).channels[0].gain == 0


def test_a_second_cleaning_changes_nothing() -> None:
    once = clean(everywhere(NAME))
    assert clean(once) == once


def recordings(*folders: str) -> list[str]:
    files = [file for folder in folders for file in glob.glob(f"{DATA}/{folder}/*.[eb]df")]
    if not files:
        pytest.skip("no real recordings in ../shared/data")
    return sorted(files)


def require_same_recording(file: str, copy: Path) -> bool:
    """False for a file that cannot be opened in the first place."""
    try:
        before = open_edf(file, truncated="keep")
    except RecordingError:
        return False
    deidentify(file, copy)
    after = open_edf(copy)
    assert (after.gaps, after.clock_s, after.duration_s) == (
        before.gaps, before.clock_s, before.duration_s)  # fmt: skip
    for one, other in zip(before.channels, after.channels, strict=True):
        assert np.array_equal(before.digital(one), after.digital(other)), file
        assert (one.gain, one.offset, one.sample_rate_hz) == (
            other.gain, other.offset, other.sample_rate_hz)  # fmt: skip
    assert uses_of(copy) == uses_of(file), file
    assert opens_with_pyedflib(copy) or not opens_with_pyedflib(file), file
    return True


def uses_of(file: str | Path) -> list[tuple[Modality | None, Decision]]:
    """What would become of each channel."""
    config = PreprocessConfig(truncated="keep")
    return [(c.modality, c.decision) for c in inspect_file(file, config).channels]


def opens_with_pyedflib(file: str | Path) -> bool:
    try:
        pyedflib.EdfReader(str(file)).close()
    except OSError:
        return False
    return True


def test_small_real_recordings_keep_every_sample_and_open_elsewhere(tmp_path: Path) -> None:
    files = [f for f in recordings("psg", "odd") if os.path.getsize(f) < 300_000]
    same = [require_same_recording(file, tmp_path / f"{k}.edf") for k, file in enumerate(files)]
    assert sum(same) >= 15


@pytest.mark.endurance
def test_all_real_recordings_keep_every_sample_and_open_elsewhere(tmp_path: Path) -> None:
    folders = ("psg", "odd", "resmed/*", "resmed/*/*", "resmed/*/*/*", "ucddb", "annotations/*")
    files = recordings(*folders)
    same = [require_same_recording(file, tmp_path / f"{k}.edf") for k, file in enumerate(files)]
    print(f"{sum(same)} of {len(files)}")
    assert sum(same) >= 80


def test_edfio_reads_a_clean_copy_without_complaint(tmp_path: Path) -> None:
    deidentify(everywhere(NAME), tmp_path / "copy.edf")
    copy = edfio.read_edf(tmp_path / "copy.edf")
    assert [a.text for a in copy.annotations] == ["Arousal", "Hypopnea"]
    assert copy.patient.name == "X"


def test_a_clean_copy_preprocesses_to_the_same_night(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    seconds = 90
    signals = [
        RawSignal(
            [rng.integers(-90, 90, 100).astype("<i2").tobytes() for _ in range(seconds)],
            label=label,
        )
        for label in ("EEG C4-M1", "EOG E1-M2")
    ]
    tals = [b"+%d\x14\x14\0" % k for k in range(seconds)]
    tals[0] += b"+0\x1530\x14Sleep stage W\x14\0"
    tals[30] += b"+30\x1560\x14N2 \x14\0"
    tals[40] += b"+40\x1512\x14Obstructive Apnoea\x14\0+45\x14Mrs Doe woke up\x14"
    edf = RawEdf([*signals, annotation_signal(*tals)], reserved="EDF+C", clock=b"23:10:05")
    data = edf.to_bytes()
    config = PreprocessConfig(min_duration_s=60.0)
    before = load_night(data, config, recording_id="night")
    after = load_night(clean(data), config, recording_id="night")
    assert before.hypnogram is not None
    assert after.hypnogram is not None
    assert before.hypnogram.tolist() == after.hypnogram.tolist() == [Stage.WAKE, Stage.N2, Stage.N2]
    assert before.events == after.events
    assert before.channels == after.channels
    assert before.statistics == after.statistics
    assert before.signals.keys() == after.signals.keys()
    for modality, samples in before.signals.items():
        assert np.array_equal(samples, after.signals[modality])


# ------------------------------------------------------------------------------------- the file itself


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    night = tmp_path / "night.edf"
    per_record, num_records = 30_000, 1_700
    signal = RawSignal([bytes(2 * per_record)])
    night.write_bytes(RawEdf([signal], num_records=str(num_records)).to_bytes())
    os.truncate(night, 512 + 2 * per_record * num_records)  # 102 MB, most of it a hole
    tracemalloc.start()
    try:
        with open(os.devnull, "wb") as stream:
            done = deidentify(night, stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.num_records == num_records
    assert peak < 4 * module.PIECE_BYTES


def test_an_interrupted_copy_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    old = tmp_path / "old.edf"
    old.write_bytes(b"old")
    monkeypatch.setattr(module, "clean_record", interrupted)
    for target in (tmp_path / "new.edf", old):
        with pytest.raises(KeyboardInterrupt):
            deidentify(everywhere(NAME), target, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["old.edf"]
    assert old.read_bytes() == b"old"


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "there.edf"
    target.write_bytes(b"old")
    with pytest.raises(ConfigError, match="already"):
        deidentify(everywhere(NAME), target)
    assert target.read_bytes() == b"old"
    deidentify(everywhere(NAME), target, overwrite=True)
    assert target.read_bytes() == clean(everywhere(NAME))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recording_never_replaces_itself(tmp_path: Path, overwrite: bool) -> None:
    night = tmp_path / "night.edf"
    night.write_bytes(everywhere(NAME))
    (tmp_path / "link.edf").symlink_to(night)
    for target in (night, tmp_path / "link.edf"):
        with pytest.raises(ConfigError, match="itself"):
            deidentify(night, target, overwrite=overwrite)
    assert night.read_bytes() == everywhere(NAME)


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as caught:
        deidentify(everywhere(NAME), tmp_path / "nowhere" / "copy.edf")
    assert caught.value.code == "unreadable"


def test_a_truncated_recording_is_copied_as_far_as_it_goes() -> None:
    data = RawEdf([RawSignal([int16(1, 2)])], num_records="9").to_bytes()
    stream = io.BytesIO()
    done = deidentify(data, stream)
    assert done == Deidentified(num_records=1, complete=False, texts_kept=0, texts_removed=0)
    assert open_edf(stream.getvalue()).notes == ()


def test_a_record_of_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 100)
    with pytest.raises(RecordingError) as caught:
        clean(plus(b"+0\x14\x14", width=120))
    assert caught.value.code == "recording_too_large"
