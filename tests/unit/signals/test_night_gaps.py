"""A discontinuous recording becomes a night in which everything is still at its true second."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepmami.config import PreprocessConfig
from sleepmami.psg import EventKind, Modality, Night, ScoredEvent, Stage
from sleepmami.signals.preprocess import load_night
from sleepmami.tables.rows import night_from_rows, recording_row, segments_table
from tests.unit.signals.raw_edf import RawEdf, RawSignal, annotation_signal

RECORD_S = 10
# Nothing is recorded from 60 to 137.3 s and from 197.3 to 200 s: epochs 2, 3, 4 and 6.
ONSETS_S = [*np.arange(0, 60, 10.0), *np.arange(137.3, 197, 10.0), *np.arange(200, 345, 10.0)]
GAPS = [(60.0, 137.3), (197.3, 200.0)]
NUM_EPOCHS = 11  # of 350 s
BURST_S = 215.25
EVENT_S = 301.5


def records(values_at: Sequence[float], rate_hz: int, label: str, seed: int) -> RawSignal:
    """Noise, and a smooth pulse of a fifth of a second at each of those true times."""
    rng = np.random.default_rng(seed)
    pieces = []
    for onset_s in ONSETS_S:
        time_s = onset_s + np.arange(RECORD_S * rate_hz) / rate_hz
        wave = rng.normal(0, 5, len(time_s))
        for at_s in values_at:
            wave += 500 * np.exp(-0.5 * ((time_s - at_s) / 0.05) ** 2)
        pieces.append(np.rint(wave).astype("<i2").tobytes())
    return RawSignal(pieces, label, "uV", "-3000", "3000", "-3000", "3000")


def saturation() -> RawSignal:
    pieces = []
    for onset_s in ONSETS_S:
        second = np.floor(onset_s + np.arange(RECORD_S))
        dip = np.where(second == EVENT_S // 1, 80, 96 + second % 2)
        pieces.append(dip.astype("<i2").tobytes())
    return RawSignal(pieces, "SpO2", "%", "0", "100", "0", "100")


def tals() -> RawSignal:
    words = []
    for onset_s in ONSETS_S:
        text = b"+%.4f\x14\x14\0" % onset_s
        if onset_s == 0:
            text += b"+0\x15180\x14Sleep stage W\x14\0+180\x1530\x14Sleep stage R\x14\0"
            text += b"+210\x15140\x14Sleep stage N2\x14\0"
            text += b"+%.1f\x1512\x14Obstructive apnea\x14\0" % EVENT_S
        words.append(text)
    return annotation_signal(*words, width=160)


@pytest.fixture(scope="module")
def night() -> Night:
    signals = [
        records([30.0, BURST_S], 100, "EEG C4-M1", 0),
        records([30.0, BURST_S], 32, "Thorax", 1),
        saturation(),
        tals(),
    ]
    raw = RawEdf(signals, reserved="EDF+D", record_duration=str(RECORD_S))
    return load_night(raw.to_bytes(), PreprocessConfig(), recording_id="n1")


def continuous(night: Night, modality: Modality) -> NDArray[np.int16]:
    """[num_epochs * samples]: segments joined, the overlap of an odd night taken out."""
    rows = night.signals[modality]
    half = rows.shape[1] // 2
    odd = night.num_epochs % 2
    return np.concatenate([rows[: len(rows) - odd].reshape(-1), *(rows[-1:, half:] if odd else [])])


def test_epochs_that_a_gap_touches_are_unusable_in_every_modality(night: Night) -> None:
    assert night.num_epochs == NUM_EPOCHS
    np.testing.assert_allclose(night.gaps, GAPS)
    expected = [epoch not in (2, 3, 4, 6) for epoch in range(NUM_EPOCHS)]
    for modality in (Modality.EEG, Modality.RESP, Modality.SPO2):
        assert night.usable[modality].tolist() == expected
    reasons = [d.reason for d in night.channels]
    assert reasons[0] == "EEG C4-M1; 4 of 11 epochs unusable (gap 4)"
    assert all("(gap 4)" in reason for reason in reasons)


@pytest.mark.parametrize(("modality", "rate_hz"), [(Modality.EEG, 100), (Modality.RESP, 50)])
def test_a_pulse_after_two_gaps_is_in_the_sample_of_its_true_time(
    night: Night, modality: Modality, rate_hz: int
) -> None:
    signal = continuous(night, modality)
    assert len(signal) == NUM_EPOCHS * 30 * rate_hz
    before = signal[: 60 * rate_hz].argmax()
    after = 60 * rate_hz + signal[60 * rate_hz :].argmax()
    assert before == pytest.approx(30.0 * rate_hz, abs=1.5)
    assert after == pytest.approx(BURST_S * rate_hz, abs=1.5)


def test_stage_event_and_desaturation_share_the_true_time(night: Night) -> None:
    assert night.hypnogram is not None
    expected = [Stage.WAKE] * 6 + [Stage.REM] + [Stage.N2] * 4
    assert night.hypnogram.tolist() == expected
    apnea = ScoredEvent(start_s=EVENT_S, duration_s=12.0, kind=EventKind.OBSTRUCTIVE_APNEA)
    assert night.events == (apnea,)
    lowest = int(continuous(night, Modality.SPO2).argmin())
    assert lowest == int(EVENT_S)


def test_gap_samples_do_not_enter_the_statistics(night: Night) -> None:
    usable = continuous(night, Modality.EEG).reshape(NUM_EPOCHS, -1)[night.usable[Modality.EEG]]
    assert usable.std() == pytest.approx(1000, abs=1)
    assert usable.mean() == pytest.approx(0, abs=1)
    gaps = continuous(night, Modality.EEG).reshape(NUM_EPOCHS, -1)[~night.usable[Modality.EEG]]
    assert not gaps.any()


def test_the_night_with_gaps_survives_the_tables(night: Night) -> None:
    segments = segments_table(night)
    row = recording_row(
        night, recording_id="n1", subject_id="s1", cohort="c", split="train", source_hash="0",
        segments=segments, demographics=None,
    )  # fmt: skip
    again = night_from_rows(row, segments)
    assert (again.gaps, again.events, again.layout) == (night.gaps, night.events, night.layout)
    np.testing.assert_array_equal(again.signals[Modality.EEG], night.signals[Modality.EEG])
    np.testing.assert_array_equal(again.usable[Modality.SPO2], night.usable[Modality.SPO2])
