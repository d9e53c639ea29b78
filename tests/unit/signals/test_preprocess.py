import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.errors import RecordingError
from sleepmami.psg import MODALITIES, Decision, Night
from sleepmami.signals.edf import EdfChannel
from sleepmami.signals.edf_writer import WriteChannel, write_edf
from sleepmami.signals.preprocess import load_night, preprocess

EEG, EOG, EMG, ECG, RESP, SPO2 = MODALITIES
CONFIG = PreprocessConfig()
GAIN, OFFSET = 0.1, 5.0  # uV per step, uV at digital 0


@dataclass
class FakeEdf:
    """As much of an EdfFile as preprocess needs, from digital samples."""

    signals: dict[str, NDArray[np.int16]]
    duration_s: float = 300.0
    gaps: tuple[tuple[float, float], ...] = ()
    unit: str = "uV"
    name: str = "fake.edf"
    gain: float = GAIN
    channels: tuple[EdfChannel, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.channels = tuple(
            EdfChannel(
                index=index,
                label=label,
                unit=self.unit,
                sample_rate_hz=len(samples) / self.duration_s,
                samples_per_record=1,
                digital_min=-32768,
                digital_max=32767,
                physical_min=-32768 * self.gain + OFFSET,
                physical_max=32767 * self.gain + OFFSET,
            )
            for index, (label, samples) in enumerate(self.signals.items())
        )

    def will_read(self, channels: Iterable[EdfChannel]) -> None:
        pass

    def digital(self, channel: EdfChannel) -> NDArray[np.int16]:
        return self.signals[channel.label].copy()

    def physical(self, channel: EdfChannel) -> NDArray[np.float32]:
        return (self.digital(channel) * channel.gain + channel.offset).astype(np.float32)


def noise(duration_s: float = 300, rate_hz: int = 200, std: float = 300, seed: int = 0) -> NDArray[np.int16]:  # fmt: skip
    size = round(duration_s * rate_hz)
    return np.random.default_rng(seed).normal(0, std, size).astype(np.int16)


def run(
    signals: dict[str, NDArray[np.int16]], config: PreprocessConfig = CONFIG, **options: object
) -> Night:
    edf = FakeEdf(signals, **options)  # type: ignore[arg-type]  # FakeEdf checks them
    return preprocess(edf, config, recording_id="n1")  # type: ignore[arg-type]  # a fake EdfFile


def decisions(night: Night) -> dict[str, Decision]:
    return {d.label: d.decision for d in night.channels}


def test_a_z_scored_signal_has_unit_variance_and_the_shape_of_segments() -> None:
    night = run({"EEG C4-M1": noise(), "Thorax": noise(rate_hz=32)})
    assert (night.num_epochs, night.recording_id) == (10, "n1")
    assert (night.signals[EEG].shape, night.signals[EEG].dtype) == ((5, 6000), np.int16)
    assert night.signals[RESP].shape == (5, 3000)
    assert night.signals[EEG].std() == pytest.approx(1000, abs=1)
    assert night.signals[EEG].mean() == pytest.approx(0, abs=1)
    assert night.missing == (EOG, EMG, ECG, SPO2)


def test_the_last_segment_of_an_odd_night_overlaps() -> None:
    night = run({"EEG C4-M1": noise(160)}, duration_s=160)  # 5 epochs and 10 s
    segments = night.signals[EEG]
    assert (night.num_epochs, segments.shape) == (5, (3, 6000))
    np.testing.assert_array_equal(segments[2, :3000], segments[1, 3000:])


def test_statistics_undo_the_z_score_in_physical_units() -> None:
    breathing = 1000 * np.sin(2 * np.pi * 0.25 * np.arange(300 * 32) / 32) + 2000
    night = run({"Thorax": breathing.astype(np.int16)})
    statistics = night.statistics[RESP]
    assert statistics.mean == pytest.approx(2000 * GAIN + OFFSET, rel=1e-3)
    assert statistics.std == pytest.approx(1000 * GAIN / np.sqrt(2), rel=1e-3)
    restored = night.signals[RESP].reshape(-1) / 1000 * statistics.std + statistics.mean
    expected = 100 * np.sin(2 * np.pi * 0.25 * np.arange(300 * 50) / 50) + 205
    assert np.abs(restored - expected)[100:-100].max() < 0.2


def test_millivolts_and_microvolts_give_the_same_night() -> None:
    samples = {"EEG C4-M1": noise()}
    micro, milli = run(samples), run(samples, unit="mV", gain=GAIN)
    np.testing.assert_array_equal(micro.signals[EEG], milli.signals[EEG])
    assert milli.statistics[EEG].std == pytest.approx(1000 * micro.statistics[EEG].std)


def test_an_inverted_physical_range_turns_the_signal_over() -> None:
    samples = {"EEG C4-M1": noise()}
    np.testing.assert_array_equal(run(samples).signals[EEG], -run(samples, gain=-GAIN).signals[EEG])


def test_a_large_offset_changes_nothing() -> None:
    samples = noise(std=100)
    raised = samples + np.int16(30_000)
    first, second = run({"EEG C4-M1": samples}), run({"EEG C4-M1": raised})
    assert np.abs(first.signals[EEG].astype(int) - second.signals[EEG]).max() <= 1


def test_the_fastest_channel_of_a_short_file_takes_little_memory() -> None:
    samples = noise(duration_s=60, rate_hz=20_000)  # 2.4 MB
    tracemalloc.start()
    run({"EMG chin": samples}, duration_s=60.0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 300e6


def test_a_derivation_is_the_difference_of_its_electrodes() -> None:
    common, brain = noise(seed=1, std=2000), noise(seed=2, std=100)
    night = run({"C4": common + brain, "M1": common})
    alone = run({"C4-M1": brain})
    assert np.abs(night.signals[EEG].astype(int) - alone.signals[EEG]).max() <= 2
    assert decisions(night) == {"C4": Decision.USED, "M1": Decision.REFERENCE}


def test_unusable_epochs_are_zero_and_do_not_shift_the_rest() -> None:
    clean = noise()
    spoiled = clean.copy()
    spoiled[6000:12_000] = 32767
    night, reference = run({"EEG C4-M1": spoiled}), run({"EEG C4-M1": clean})
    assert night.usable[EEG].tolist() == [True, False] + [True] * 8
    assert not night.signals[EEG][0, 3000:].any()
    difference = night.signals[EEG][2:].astype(int) - reference.signals[EEG][2:]
    assert np.abs(difference).max() < 30  # 0.03 standard deviations
    assert night.channels[0].reason == "EEG C4-M1; 1 of 10 epochs unusable (flat 1)"


def test_a_dead_channel_is_rejected_and_the_next_one_used() -> None:
    dead = np.zeros(60_000, dtype=np.int16)
    night = run({"EEG C4-M1": dead, "EEG C3-M2": noise(), "EEG O1-M2": noise(seed=1)})
    assert list(decisions(night).values()) == [Decision.REJECTED, Decision.USED, Decision.SPARE]
    assert night.usable[EEG].all()


def test_a_mostly_bad_channel_gives_way_to_a_better_spare() -> None:
    bad = noise()
    bad[:42_000] = 0  # 7 of 10 epochs
    night = run({"EEG C4-M1": bad, "EEG C3-M2": noise(seed=1)})
    assert list(decisions(night).values()) == [Decision.SPARE, Decision.USED]
    assert "7 of 10 epochs unusable" in night.channels[0].reason
    assert run({"EEG C4-M1": bad}).usable[EEG].sum() == 3


def test_a_dead_modality_is_missing_while_the_others_stay() -> None:
    night = run({"EEG C4-M1": noise(), "ECG": np.zeros(60_000, dtype=np.int16)})
    assert ECG in night.missing
    assert decisions(night)["ECG"] is Decision.REJECTED
    assert "flat 10" in night.channels[1].reason


def test_the_reference_of_a_rejected_electrode_is_no_reference_any_more() -> None:
    dead = np.zeros(60_000, dtype=np.int16)
    night = run({"C4": dead, "M1": noise(seed=1), "C3": noise(seed=2), "M2": noise(seed=3)})
    assert decisions(night) == {
        "C4": Decision.REJECTED, "M1": Decision.IGNORED, "C3": Decision.USED, "M2": Decision.REFERENCE,
    }  # fmt: skip
    assert [channel.reference for channel in night.channels] == [None, None, "M2", None]


def code_of(signals: dict[str, NDArray[np.int16]], duration_s: float = 300.0) -> str:
    with pytest.raises(RecordingError) as caught:
        run(signals, duration_s=duration_s)
    return caught.value.code


def test_refusals_have_their_codes() -> None:
    flat = np.zeros(60_000, dtype=np.int16)
    assert code_of({"Snore": flat, "Temp": flat}) == "channels_missing"
    assert code_of({}) == "channels_missing"
    assert code_of({"EEG": flat, "ECG": flat}) == "signal_unusable"
    assert code_of({"EMG": noise(rate_hz=1)}) == "signal_unusable"
    assert code_of({"EEG": noise(59)}, duration_s=59.0) == "recording_too_short"
    assert code_of({"EEG": noise()}, duration_s=73 * 3600.0) == "recording_too_large"


def test_missing_channels_are_named_in_the_error() -> None:
    with pytest.raises(RecordingError, match=r"fake\.edf.*'Snore'.*channel of EEG"):
        run({"Snore": noise()})


def hum(hz: float, amplitude: float, duration_s: float = 300, rate_hz: int = 200) -> NDArray[np.int16]:  # fmt: skip
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * time_s), dtype=np.int16)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_the_notch_goes_where_the_recording_hums(mains_hz: float) -> None:
    signals = {"EEG C4-M1": noise() + hum(mains_hz, 300), "ECG": noise(seed=1)}
    night = run(signals, PreprocessConfig(detect_mains=True, notch_hz=55))
    wanted = run(signals, PreprocessConfig(notch_hz=mains_hz))
    np.testing.assert_array_equal(night.signals[EEG], wanted.signals[EEG])
    note = f"notch at {mains_hz:g} Hz, where it hums"
    assert [d.reason for d in night.channels] == [f"EEG C4-M1; {note}", f"ECG; {note}"]


def test_without_hum_the_notch_stays_where_it_is_set() -> None:
    signals = {"EEG C4-M1": noise(), "Thorax": noise(rate_hz=32)}
    night = run(signals, PreprocessConfig(detect_mains=True, notch_hz=50))
    wanted = run(signals, PreprocessConfig(notch_hz=50))
    np.testing.assert_array_equal(night.signals[EEG], wanted.signals[EEG])
    found = [d.reason for d in night.channels]
    assert found == ["EEG C4-M1; no hum at 50 or 60 Hz, notch at 50 Hz as set", "thorax effort"]


def test_hum_is_looked_for_where_the_rate_can_show_it() -> None:
    signals = {"EEG C4-M1": noise(rate_hz=100), "ECG": noise() + hum(50, 300)}
    night = run(signals, PreprocessConfig(detect_mains=True))
    assert "notch at 50 Hz" in night.channels[0].reason


def test_an_electrode_that_hangs_in_the_air_is_disconnected() -> None:
    off = noise()
    off[:18_000] = hum(50, 20_000)[:18_000] + noise(seed=1, std=20)[:18_000]
    night = run({"EEG C4-M1": off})
    assert night.usable[EEG].tolist() == [False] * 3 + [True] * 7
    assert "disconnected 3" in night.channels[0].reason
    reference = run({"EEG C4-M1": noise()})
    difference = night.signals[EEG][2:].astype(int) - reference.signals[EEG][2:]
    assert np.abs(difference).max() < 150  # bridged before the filter: it neither rings nor scales


def test_a_channel_that_hums_all_night_gives_way_to_a_spare() -> None:
    night = run({"EEG C4-M1": hum(60, 20_000), "EEG C3-M2": noise()})
    assert list(decisions(night).values()) == [Decision.REJECTED, Decision.USED]


def test_an_amplifier_without_electrode_is_disconnected_when_the_unit_is_known() -> None:
    off = noise(std=1000)  # 100 uV
    off[:6000] = noise(std=2)[:6000]
    assert not run({"EEG C4-M1": off}).usable[EEG][0]
    assert run({"EEG C4-M1": off}, unit="").usable[EEG].all()


def test_a_gap_is_a_fault_of_every_modality_and_of_no_channel() -> None:
    signals = {"EEG C4-M1": noise(), "EEG C3-M2": noise(seed=1), "Thorax": noise(rate_hz=32)}
    night = run(signals, gaps=((20.0, 240.5),))  # 9 of 10 epochs
    assert night.gaps == ((20.0, 240.5),)
    assert night.usable[EEG].tolist() == night.usable[RESP].tolist() == [False] * 9 + [True]
    assert decisions(night)["EEG C4-M1"] is Decision.USED
    assert "gap 9" in night.channels[0].reason


def write(path: Path, *channels: WriteChannel) -> Path:
    write_edf(path, channels)
    return path


def spo2(values: NDArray[np.float64]) -> WriteChannel:
    return WriteChannel("SpO2", "%", 1.0, values, -10, 140)


def test_spo2_is_kept_at_1_hz_without_its_sentinels(tmp_path: Path) -> None:
    values = 95 + 2 * np.sin(np.arange(240) / 9)
    values[60:100] = -1  # all of epoch 2, a third of epoch 3
    night = load_night(write(tmp_path / "a.edf", spo2(values)), CONFIG, recording_id="a")
    assert night.signals[SPO2].shape == (4, 60)
    assert night.usable[SPO2].tolist() == [True, True, False, True, True, True, True, True]
    statistics = night.statistics[SPO2]
    assert 93 < statistics.mean < 97
    restored = night.signals[SPO2].reshape(-1) / 1000 * statistics.std + statistics.mean
    assert np.abs(restored[:60] - values[:60]).max() < 0.01


@pytest.mark.parametrize("values", [np.full(120, -1.0), np.full(120, 96.0)])
def test_an_absent_or_stuck_oximeter_is_no_signal(
    tmp_path: Path, values: NDArray[np.float64]
) -> None:
    with pytest.raises(RecordingError) as caught:
        load_night(write(tmp_path / "a.edf", spo2(values)), CONFIG, recording_id="a")
    assert caught.value.code == "signal_unusable"


def test_bytes_and_path_give_the_same_night(tmp_path: Path) -> None:
    path = write(tmp_path / "a.edf", WriteChannel("ECG", "mV", 128.0, noise(90, 128) / 300, -5, 5))
    first = load_night(path, CONFIG, recording_id="a")
    second = load_night(path.read_bytes(), CONFIG, recording_id="a", name="upload.edf")
    np.testing.assert_array_equal(first.signals[ECG], second.signals[ECG])
    assert first.num_epochs == 3


def test_a_clinical_recording_yields_all_six_modalities(shared_data: Path) -> None:
    night = load_night(shared_data / "psg" / "Osas2002plusQRS.edf", CONFIG, recording_id="a")
    assert night.missing == ()
    chosen = {d.modality: d.label for d in night.channels if d.decision is Decision.USED}
    assert chosen == {
        EEG: "EEG C4-M1", EOG: "EOG Pos8-M1", EMG: "EMG submental", ECG: "ECG",
        RESP: "Resp oro-nasal", SPO2: "SaO2",
    }  # fmt: skip
    assert 5 < night.statistics[EEG].std < 60  # uV, a living brain


def test_sleep_edf_has_an_emg_too_slow_to_use(shared_data: Path) -> None:
    night = load_night(shared_data / "psg" / "short_psg.edf", CONFIG, recording_id="a")
    assert set(night.signals) == {EEG, EOG, RESP}
    assert decisions(night)["EMG submental"] is Decision.REJECTED


def test_a_cpap_night_without_oximeter_is_breathing_only(shared_data: Path) -> None:
    folder = shared_data / "resmed" / "DATALOG" / "20250211"
    night = load_night(folder / "20250212_053846_BRP.edf", CONFIG, recording_id="a")
    assert set(night.signals) == {RESP}
    with pytest.raises(RecordingError) as caught:
        load_night(folder / "20250212_053847_SAD.edf", CONFIG, recording_id="a")
    assert caught.value.code == "signal_unusable"


@pytest.mark.parametrize("alive_s", [0, 90])
def test_a_dead_reference_costs_no_electrode(alive_s: int) -> None:
    reference = noise(seed=1)
    reference[alive_s * 200 :] = 7
    night = run({"C4": noise(), "M1": reference, "ECG": noise(seed=2)})
    alone = run({"C4": noise(), "ECG": noise(seed=2)})
    np.testing.assert_array_equal(night.signals[EEG], alone.signals[EEG])
    assert "as recorded, because the difference to M1 is unusable" in night.channels[0].reason
    assert [d.decision for d in night.channels] == [Decision.USED, Decision.IGNORED, Decision.USED]


def test_another_living_reference_comes_before_none() -> None:
    dead = np.full_like(noise(), 7)
    night = run({"C4": noise(), "C3": noise(seed=1), "M1": dead, "M2": noise(seed=2)})
    used = next(d for d in night.channels if d.decision is Decision.USED)
    assert (used.label, used.reference) == ("C3", "M2")
