import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingError
from sleepmami.psg import Decision, Modality
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.inspect import FileInspection, inspect_file, inspect_files, summarise
from sleepmami.signals.preprocess import load_night

CONFIG = PreprocessConfig()


def recording(folder: Path, *labels: str, duration_s: int = 90) -> Path:
    samples = np.zeros(100 * duration_s)
    channels = [WriteChannel(label, "uV", 100.0, samples, -200.0, 200.0) for label in labels]
    write_edf(folder / "night.edf", channels)
    return folder / "night.edf"


def test_a_good_file_is_ok_with_one_decision_per_signal(tmp_path: Path) -> None:
    path = recording(tmp_path, "EEG C4-M1", "Position")
    found = inspect_file(path, CONFIG)
    assert (found.file, found.ok, found.code, found.reason) == (str(path), True, None, None)
    assert found.duration_s == 90.0
    assert [(c.label, c.modality) for c in found.channels] == [("EEG C4-M1", Modality.EEG), ("Position", None)]  # fmt: skip
    assert [c.decision for c in found.channels] == [Decision.USED, Decision.IGNORED]


def test_dictionary_is_json_with_exactly_the_agreed_keys(tmp_path: Path) -> None:
    plain = inspect_file(recording(tmp_path, "EEG C4-M1"), CONFIG).to_dict()
    assert list(plain) == ["file", "ok", "code", "reason", "duration_s", "gaps", "modalities", "channels"]  # fmt: skip
    assert list(plain["channels"][0]) == [
        "label", "modality", "side", "unit", "sample_rate_hz", "decision", "reference", "confidence", "reason",
    ]  # fmt: skip
    assert json.loads(json.dumps(plain)) == plain
    assert plain["channels"][0]["modality"] == "EEG"
    assert (plain["channels"][0]["side"], plain["channels"][0]["confidence"]) == (
        "right",
        "certain",
    )
    assert (plain["gaps"], plain["modalities"]) == ([], ["EEG"])


def test_no_known_channel_is_channels_missing_and_still_lists_them(tmp_path: Path) -> None:
    found = inspect_file(recording(tmp_path, "Position"), CONFIG)
    assert (found.ok, found.code) == (False, "channels_missing")
    assert [c.label for c in found.channels] == ["Position"]
    assert "EEG, EOG, EMG, ECG, RESP, SPO2" in str(found.reason)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (PreprocessConfig(min_duration_s=91), "recording_too_short"),
        (PreprocessConfig(max_duration_h=0.02), "recording_too_large"),
    ],
)
def test_duration_limits_are_those_of_the_config(
    tmp_path: Path, config: PreprocessConfig, code: str
) -> None:
    found = inspect_file(recording(tmp_path, "EEG C4-M1"), config)
    assert (found.code, found.duration_s) == (code, 90.0)


def test_a_truncated_file_follows_the_config(tmp_path: Path) -> None:
    path = recording(tmp_path, "EEG C4-M1")
    path.write_bytes(path.read_bytes()[:-1])
    assert inspect_file(path, CONFIG).code == "truncated_recording"
    kept = inspect_file(path, PreprocessConfig(truncated="keep"))
    assert (kept.ok, kept.code, kept.duration_s) == (True, None, 89.0)
    assert str(kept.reason).startswith("truncated: 89 of 90 data records are there")


def test_a_file_that_does_not_open_is_an_answer(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.edf")
    assert inspect_file(missing, CONFIG) == FileInspection(
        file=missing,
        ok=False,
        code="unreadable",
        reason="found no such file; expected a readable, finished file",
        duration_s=None,
        channels=(),
    )


@pytest.mark.parametrize(
    ("labels", "rate_hz", "config"),
    [
        (["EEG C4-M1"], 100.0, PreprocessConfig(min_duration_s=91)),
        (["EEG C4-M1"], 100.0, PreprocessConfig(max_duration_h=0.02)),
        (["Position"], 100.0, CONFIG),
        (["EEG C4-M1", "Position"], 10.0, CONFIG),  # too slow for an EEG
    ],
)
def test_inspection_refuses_with_the_code_of_preprocessing(
    tmp_path: Path, labels: list[str], rate_hz: float, config: PreprocessConfig
) -> None:
    samples = np.zeros(int(rate_hz) * 90)
    channels = [WriteChannel(label, "uV", rate_hz, samples, -200.0, 200.0) for label in labels]
    write_edf(tmp_path / "night.edf", channels)
    with pytest.raises(RecordingError) as caught:
        load_night(tmp_path / "night.edf", config, recording_id="night")
    assert inspect_file(tmp_path / "night.edf", config).code == caught.value.code


def test_real_recordings_end_as_expected(shared_data: Path) -> None:
    codes = {
        "psg/short_psg.edf": None,
        "psg/Osas2002plusQRS.edf": None,
        "psg/SC4001EC-Hypnogram.edf": "channels_missing",
        "resmed/10/VAuto/STR.edf": "recording_too_large",
    }
    assert {name: inspect_file(shared_data / name, CONFIG).code for name in codes} == codes


def test_the_user_sees_the_labels_and_units_of_the_file_word_for_word(tmp_path: Path) -> None:
    samples = np.zeros(9000)
    rows = [("C4 Mueller", "uV"), ("M1 Mueller", "uV"), ("Flow", "Mueller")]
    channels = [WriteChannel(label, unit, 100.0, samples, -200.0, 200.0) for label, unit in rows]
    write_edf(tmp_path / "night.edf", channels)
    found = inspect_file(tmp_path / "night.edf", CONFIG).channels
    assert [(c.label, c.unit) for c in found] == rows
    assert found[0].reference == "M1 Mueller"


def test_the_channel_file_and_the_layout_are_those_of_the_config(tmp_path: Path) -> None:
    path = recording(tmp_path, "Aux 3", "ECG")
    config = PreprocessConfig(layout="sleep2vec", channels=(("aux 3", "nasal flow"),))
    found = inspect_file(path, config)
    assert [m.value for m in found.modalities] == ["ECG", "FLOW", "IBI", "RESP"]
    assert "by your channel file" in found.channels[0].reason


@pytest.mark.parametrize("workers", [1, 3])
def test_many_files_come_back_in_order_and_are_not_all_asked_for_at_once(
    tmp_path: Path, workers: int
) -> None:
    path = recording(tmp_path, "EEG C4-M1")
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        for number in itertools.count():
            asked += 1
            yield path if number % 2 == 0 else tmp_path / f"missing {number}.edf"

    found = list(itertools.islice(inspect_files(endless(), CONFIG, workers), 40))
    assert [f.code for f in found] == [None, "unreadable"] * 20
    assert found[5].file.endswith("missing 5.edf")
    assert asked <= 40 + 8 * workers


def test_the_summary_counts_files_modalities_and_labels_that_are_not_understood(
    tmp_path: Path,
) -> None:
    paths = []
    for number, labels in enumerate([("EEG C4-M1", "Wobble"), ("EEG C4-M1", "SpO2", "Wobble"), ("Wobble",)]):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(recording(folder, *labels))
    paths.append(tmp_path / "missing.edf")
    paths[0].write_bytes(paths[0].read_bytes() + b"\0")
    assert summarise(inspect_files(paths, CONFIG)).to_dict() == {
        "num_files": 4,
        "num_ok": 2,
        "num_unusual": 1,
        "num_label_sets": 3,
        "codes": {"channels_missing": 1, "unreadable": 1},
        "modalities": {"EEG": 2, "SPO2": 1},
        "unknown_labels": {"Wobble": 3},
    }
