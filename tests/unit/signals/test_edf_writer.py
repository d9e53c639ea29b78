import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sleepmami.errors import RecordingCode, RecordingError
from sleepmami.signals.edf import Annotation, open_edf
from sleepmami.signals.edf_writer import WriteChannel, write_edf

EEG = WriteChannel("EEG C4-M1", "uV", 100.0, np.linspace(-150, 150, 6000), -200.0, 200.0)
SPO2 = WriteChannel("SpO2", "%", 1.0, np.linspace(80, 100, 60), 0.0, 101.5)


def test_samples_come_back_within_half_a_digital_step(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", [EEG, SPO2], record_duration_s=30.0)
    file = open_edf(tmp_path / "a.edf")
    for channel, written in zip(file.channels, (EEG, SPO2), strict=True):
        assert channel.label == written.label
        assert (channel.unit, channel.sample_rate_hz) == (written.unit, written.sample_rate_hz)
        error = np.abs(file.physical(channel) - written.samples).max()
        assert error <= 0.51 * channel.gain


def test_record_duration_and_length_are_as_asked(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", [EEG], record_duration_s=0.5)
    file = open_edf(tmp_path / "a.edf")
    assert (file.num_records, file.duration_s, file.notes) == (120, 60.0, ())


def test_annotations_come_back_even_when_there_are_more_than_records(tmp_path: Path) -> None:
    written = [Annotation(i * 0.5, i % 2 * 0.25, f"event {i}") for i in range(100)]
    write_edf(tmp_path / "a.edf", [EEG], annotations=written, record_duration_s=30.0)
    assert open_edf(tmp_path / "a.edf").annotations() == written


def test_values_beyond_the_limits_are_clipped(tmp_path: Path) -> None:
    samples = np.tile([-1e9, 1e9], 50)
    write_edf(tmp_path / "a.edf", [replace(EEG, samples=samples)])
    file = open_edf(tmp_path / "a.edf")
    assert file.physical(file.channels[0])[:2].tolist() == [-200.0, 200.0]


def test_equal_arguments_give_equal_bytes_without_a_date_or_a_name(tmp_path: Path) -> None:
    for name in ("a.edf", "b.edf"):
        write_edf(tmp_path / name, [EEG])
    content = (tmp_path / "a.edf").read_bytes()
    assert content == (tmp_path / "b.edf").read_bytes()
    assert content[8:88].decode().strip() == "X X X X"
    assert content[88:168].decode().strip() == "Startdate 01-JAN-1985 X X X"
    assert content[168:184] == b"01.01.8500.00.00"


def test_writing_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    write_edf(tmp_path / "a.edf", [EEG])
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"physical_min": -1 / 3}, "limits"),
        ({"physical_min": 200.0}, "limits"),
        ({"label": "a label of more than 16"}, "a label"),
        ({"unit": "\u00b5V"}, "\u00b5V"),
        ({"sample_rate_hz": 99.5}, "99.5 samples per record"),
        ({"samples": np.zeros(150)}, "150 samples"),
        ({"samples": np.zeros(0)}, "0 samples"),
        ({"samples": np.full(6000, np.nan)}, "not finite"),
    ],
)
def test_what_an_edf_cannot_hold_is_refused(tmp_path: Path, change: dict[str, object], found: str) -> None:  # fmt: skip
    with pytest.raises(RecordingError) as caught:
        write_edf(tmp_path / "a.edf", [replace(EEG, **change)])  # type: ignore[arg-type]
    assert caught.value.code == RecordingCode.HEADER_INVALID
    assert found in caught.value.found
    assert not (tmp_path / "a.edf").exists()


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ([EEG, replace(SPO2, samples=np.zeros(59))], {}),
        ([EEG], {"record_duration_s": 61.0}),
        ([EEG], {"annotations": [Annotation(0.0, 0.0, "x" * 41)]}),
        ([EEG], {"annotations": [Annotation(0.0, 0.0, "x")] * 3841}),
        ([], {}),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, channels: list[WriteChannel], options: dict[str, object]) -> None:  # fmt: skip
    with pytest.raises(RecordingError, match="header_invalid"):
        write_edf(tmp_path / "a.edf", channels, **options)  # type: ignore[arg-type]


def test_a_path_that_cannot_be_written_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="unreadable"):
        write_edf(tmp_path / "no such folder" / "a.edf", [EEG])


def test_plain_edf_of_eight_bits_holds_the_samples_to_half_a_step(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    coarse = replace(EEG, digital_min=-128, digital_max=127, prefilter="HP:0.15Hz")
    write_edf(path, [coarse], plus=False)
    header = path.read_bytes()
    assert header[192:236].strip() == b""
    assert header.count(b"HP:0.15Hz") == 1
    step = 400 / 255
    file = open_edf(path)
    error = np.abs(file.physical(file.channels[0]) - EEG.samples).max()
    assert error <= step / 2 * (1 + 1e-6)


def test_plain_edf_takes_no_annotations_and_no_digits_beyond_its_integers(tmp_path: Path) -> None:
    mark = Annotation(onset_s=1.0, duration_s=1.0, text="lights off")
    with pytest.raises(RecordingError, match=r"plain EDF.*expected EDF\+"):
        write_edf(tmp_path / "a.edf", [EEG], annotations=[mark], plus=False)
    with pytest.raises(RecordingError, match="digital limits 5, 5"):
        write_edf(tmp_path / "a.edf", [replace(EEG, digital_min=5, digital_max=5)])
