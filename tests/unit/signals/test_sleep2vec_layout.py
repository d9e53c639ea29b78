"""The nine signals of sleep2vec, section 3.1, from recordings whose answers are known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.errors import ConfigError, RecordingError
from sleepmami.psg import LAYOUTS, Decision, Modality, Night
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night
from sleepmami.tables.rows import night_from_rows, recording_row, segments_table
from tests.unit.signals.test_heart_beats import ecg, heart

CONFIG = PreprocessConfig(layout="sleep2vec")
DURATION_S = 300
Signal = NDArray[np.float64]


def seconds(rate_hz: int) -> Signal:
    return np.arange(DURATION_S * rate_hz) / rate_hz


def tone(hz: float, rate_hz: int, amplitude: float = 1.0) -> Signal:
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * seconds(rate_hz)))


def electrode(label: str, values: Signal, rate_hz: int = 256) -> WriteChannel:
    return WriteChannel(label, "uV", rate_hz, values, -3000, 3000)


def breathing(label: str, values: Signal, rate_hz: int = 32) -> WriteChannel:
    return WriteChannel(label, "", rate_hz, values, -10, 10)


def oximeter(values: Signal) -> WriteChannel:
    return WriteChannel("SpO2", "%", 1, values, 0, 100)


def cardiogram(beat_s: Signal) -> WriteChannel:
    return WriteChannel("ECG", "mV", 256, ecg(beat_s, 256, DURATION_S), -5, 5)


def load(folder: Path, *channels: WriteChannel) -> Night:
    write_edf(folder / "a.edf", channels)
    return load_night(folder / "a.edf", CONFIG, recording_id="a")


def physical(night: Night, modality: Modality) -> Signal:
    """The whole night in its unit, by the statistics that the night keeps."""
    statistics = night.statistics[modality]
    return night.signals[modality].reshape(-1) / 1000 * statistics.std + statistics.mean


def amplitude(signal: Signal, hz: float, rate_hz: int) -> float:
    """Of the tone of that frequency; whole cycles fit DURATION_S."""
    wave = np.exp(-2j * np.pi * hz * np.arange(len(signal)) / rate_hz)
    return float(2 * np.abs(np.mean(signal * wave)))


def test_nine_modalities_at_128_and_4_hz_survive_the_tables(tmp_path: Path) -> None:
    beat_s = heart(DURATION_S)
    night = load(
        tmp_path,
        electrode("EEG C4-M1", tone(10, 256, 20)),
        electrode("EOG left", tone(1, 256, 50)),
        electrode("EMG chin", tone(40, 256, 5)),
        cardiogram(beat_s),
        breathing("Nasal pressure", tone(0.25, 32)),
        breathing("Abdomen", tone(0.25, 32)),
        oximeter(95 + np.arange(DURATION_S) % 3.0),
    )
    assert (night.layout, night.missing) == ("sleep2vec", ())
    shapes = {m.value: signal.shape for m, signal in night.signals.items()}
    assert shapes == {
        "EEG": (5, 7680), "EOG": (5, 7680), "EMG": (5, 7680), "ECG": (5, 7680),
        "FLOW": (5, 240), "BELT": (5, 240), "SPO2": (5, 240), "IBI": (5, 240), "RESP": (5, 240),
    }  # fmt: skip
    assert all(usable.all() for usable in night.usable.values())
    segments = segments_table(night)
    row = recording_row(
        night, recording_id="a", subject_id="s", cohort="c", split="train", source_hash="0",
        segments=segments, demographics=None,
    )  # fmt: skip
    again = night_from_rows(row, segments)
    assert (again.layout, again.statistics) == ("sleep2vec", night.statistics)
    for modality in LAYOUTS["sleep2vec"].modalities:
        np.testing.assert_array_equal(again.signals[modality], night.signals[modality])


def test_electrophysiology_is_resampled_and_nothing_else(tmp_path: Path) -> None:
    tones = {0.1: 40.0, 10.0: 20.0, 50.0: 10.0, 90.0: 30.0}  # 128 Hz holds all but the last
    wave = np.sum([tone(hz, 256, size) for hz, size in tones.items()], axis=0)
    night = load(tmp_path, electrode("EEG C4-M1", wave + 100))
    signal = physical(night, Modality.EEG)
    assert signal.mean() == pytest.approx(100, abs=0.5)
    found = {hz: amplitude(signal, hz, 128) for hz in tones}
    assert found == pytest.approx({**tones, 90.0: 0.0}, abs=0.5)


def test_airflow_and_belt_keep_their_shape_at_4_hz(tmp_path: Path) -> None:
    wave = tone(0.02, 32, 2) + tone(0.25, 32) + tone(1.2, 32, 0.5) + tone(10, 32)
    night = load(tmp_path, breathing("Nasal flow", wave), breathing("Thorax", -wave))
    expected = {0.02: 2.0, 0.25: 1.0, 1.2: 0.5}
    for modality in (Modality.FLOW, Modality.BELT):
        signal = physical(night, modality)
        found = {hz: amplitude(signal, hz, 4) for hz in expected}
        assert found == pytest.approx(expected, abs=0.02)


def test_effort_is_the_breathing_band_of_the_belt(tmp_path: Path) -> None:
    wave = tone(0.01, 32, 2) + tone(0.25, 32) + tone(1.6, 32, 0.5)
    night = load(tmp_path, breathing("Nasal flow", tone(0.3, 32)), breathing("Abdomen", wave))
    signal = physical(night, Modality.RESP)
    assert amplitude(signal, 0.25, 4) == pytest.approx(1.0, abs=0.02)
    assert amplitude(signal, 0.01, 4) < 0.02
    assert amplitude(signal, 1.6, 4) < 0.03
    assert amplitude(signal, 0.3, 4) < 0.02
    assert [d.reason for d in night.channels] == ["respiratory flow", "abdomen effort; also used for RESP"]  # fmt: skip


@pytest.mark.parametrize("rate_hz", [4, 25, 256])
def test_effort_comes_from_airflow_without_a_belt(tmp_path: Path, rate_hz: int) -> None:
    night = load(tmp_path, breathing("Nasal flow", tone(0.25, rate_hz), rate_hz))
    assert set(night.signals) == {Modality.FLOW, Modality.RESP}
    time_s = np.arange(DURATION_S * 4) / 4
    error = physical(night, Modality.RESP) - np.sin(2 * np.pi * 0.25 * time_s)
    assert np.abs(error)[40:-40].max() < 0.03
    assert night.channels[0].decision is Decision.USED


def test_effort_comes_from_airflow_when_the_belt_is_dead(tmp_path: Path) -> None:
    belt = breathing("Abdomen", np.zeros(DURATION_S * 32))
    night = load(tmp_path, breathing("Nasal flow", tone(0.25, 32)), belt)
    assert set(night.signals) == {Modality.FLOW, Modality.RESP}
    flow, abdomen = night.channels
    assert (flow.decision, flow.modality) == (Decision.USED, Modality.FLOW)
    assert flow.reason == "respiratory flow; also used for RESP"
    assert abdomen.decision is Decision.REJECTED
    assert "flat 10" in abdomen.reason


def test_saturation_is_held_within_its_second(tmp_path: Path) -> None:
    percent = 95 + np.arange(DURATION_S) % 3.0
    percent[60:100] = 0  # all of epoch 2, a third of epoch 3
    night = load(tmp_path, oximeter(percent))
    signal = physical(night, Modality.SPO2)
    np.testing.assert_allclose(signal[:240], np.repeat(percent[:60], 4), atol=0.05)
    assert np.flatnonzero(~night.usable[Modality.SPO2]).tolist() == [2]
    assert "1 of 10 epochs unusable (sentinel 1)" in night.channels[0].reason


def test_intervals_between_beats_are_those_of_the_heart(tmp_path: Path) -> None:
    beat_s = heart(DURATION_S)
    night = load(tmp_path, cardiogram(beat_s))
    assert night.statistics[Modality.IBI].unit == "s"
    time_s = np.arange(DURATION_S * 4) / 4
    expected = np.interp(time_s, beat_s[1:], np.diff(beat_s))
    assert np.abs(physical(night, Modality.IBI) - expected).max() < 0.006
    assert night.channels[0].reason == "ECG; also used for IBI"


def test_epochs_without_beats_have_no_intervals(tmp_path: Path) -> None:
    beat_s = heart(DURATION_S)
    wave = ecg(beat_s, 256, DURATION_S)
    rng = np.random.default_rng(0)
    wave[90 * 256 : 150 * 256] = 0.5 * rng.standard_normal(60 * 256)  # the lead moves about
    channel = dataclasses.replace(cardiogram(beat_s), samples=wave)
    night = load(tmp_path, channel)
    assert np.flatnonzero(~night.usable[Modality.IBI]).tolist() == [3, 4]
    assert night.usable[Modality.ECG].all()
    assert "also used for IBI, 2 of 10 epochs unusable (few heart beats 2)" in night.channels[0].reason  # fmt: skip
    expected = np.interp(np.arange(360) / 4, beat_s[1:], np.diff(beat_s))
    assert np.abs(physical(night, Modality.IBI)[:352] - expected[:352]).max() < 0.006


def test_no_interval_crosses_a_stretch_at_the_rails(tmp_path: Path) -> None:
    beat_s = heart(DURATION_S)
    wave = ecg(beat_s, 256, DURATION_S)
    wave[100 * 256 : 120 * 256] = 5.0
    night = load(tmp_path, dataclasses.replace(cardiogram(beat_s), samples=wave))
    usable = night.usable[Modality.IBI]
    assert np.flatnonzero(~usable).tolist() == [3]
    assert "clipped 1" in night.channels[0].reason
    expected = np.interp(np.arange(DURATION_S * 4) / 4, beat_s[1:], np.diff(beat_s))
    error = np.abs(physical(night, Modality.IBI) - expected).reshape(10, -1)
    error[4, :8] = 0  # up to the first interval after the stretch, the line over it ends
    assert error[usable].max() < 0.006


def test_noise_in_place_of_an_ecg_gives_no_intervals(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(DURATION_S * 256)
    night = load(tmp_path, electrode("EEG C4-M1", tone(10, 256)), electrode("ECG", 100 * noise))
    assert Modality.IBI in night.missing


def test_a_night_of_unknown_channels_names_the_layout_in_its_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="FLOW, BELT, SPO2, IBI, RESP"):
        load(tmp_path, breathing("Snore", tone(1, 32)))


def test_detected_mains_would_have_no_effect() -> None:
    with pytest.raises(ConfigError, match="detect_mains"):
        PreprocessConfig(layout="sleep2vec", detect_mains=True)
