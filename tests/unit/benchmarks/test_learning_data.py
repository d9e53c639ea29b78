"""Windows of the learning study hold what the store's segments and the night's clock say."""

import numpy as np
import torch

from benchmarks.learning_data import StudyNight, band_powers, study_night, training_batch, windows
from sleepmami.psg import (
    MODALITIES,
    SEGMENT_S,
    STORED_RATE_HZ,
    ChannelStatistics,
    EventKind,
    Modality,
    Night,
    ScoredEvent,
)
from sleepmami.training.batches import night_batch

NUM_SEGMENTS = 3
APNEA = ScoredEvent(start_s=55.0, duration_s=20.0, kind=EventKind.HYPOPNEA)  # epochs 1 and 2


def night() -> Night:
    rng = np.random.default_rng(0)
    signals = {
        m: rng.normal(0, 1000, (NUM_SEGMENTS, SEGMENT_S * rate)).astype(np.int16)
        for m, rate in STORED_RATE_HZ.items()
    }
    usable = {m: np.ones(2 * NUM_SEGMENTS, np.bool_) for m in MODALITIES}
    usable[Modality.EOG][3] = False
    return Night(
        recording_id="n",
        num_epochs=2 * NUM_SEGMENTS,
        signals=signals,
        usable=usable,
        statistics={m: ChannelStatistics(mean=0.0, std=1.0, unit="uV") for m in MODALITIES},
        hypnogram=np.arange(6, dtype=np.int8) % 5,
        events=(APNEA,),
    )


def study() -> StudyNight:
    return study_night(night())


def test_windows_at_whole_minutes_are_the_segments_of_the_store() -> None:
    found = windows(study(), np.arange(NUM_SEGMENTS) * SEGMENT_S)
    expected = night_batch(night(), 0, NUM_SEGMENTS)
    assert torch.equal(found.signal_SBT, expected.signal_SBT)
    assert torch.equal(found.valid_SBE, expected.valid_SBE)


def test_a_window_half_a_minute_later_swaps_the_halves_of_an_epoch() -> None:
    plain, later = (windows(study(), np.array([start_s])) for start_s in (0, 30))
    fast = slice(0, 4)  # at 100 Hz no sample is interpolated over the boundary
    assert torch.equal(plain.signal_SBT[fast, 0, 3000:], later.signal_SBT[fast, 0, :3000])


def test_a_window_that_touches_an_unusable_epoch_is_not_usable_there() -> None:
    # epoch 3 of the EOG is unusable; the window of 75 s covers epochs 2.5-3.5 and 3.5-4.5
    found = windows(study(), np.array([75, 60, 120]))
    assert found.valid_SBE[1].tolist() == [[False, False], [True, False], [True, True]]


def test_ten_seconds_of_a_hypopnea_mark_an_epoch() -> None:
    # 5 s lie in epoch 1 and 15 s in epoch 2
    assert study().apnea_L.tolist() == [False, False, True, False, False, False]


def test_training_windows_start_where_the_offset_says() -> None:
    only = study()
    rng = np.random.default_rng(0)
    for offset_s, num_starts in ((60, 3), (30, 5)):
        batch = training_batch([only], 100, offset_s, rng)
        assert len({float(row[0]) for row in batch.signal_SBT[0]}) == num_starts


def test_a_louder_band_has_more_power_and_no_other() -> None:
    quiet = study()
    time_s = np.arange(18000) / 100
    tone = (3000 * np.sin(2 * np.pi * 13 * time_s)).astype(np.int16)  # the sixth band of the EEG
    eeg = quiet.signals[Modality.EEG]
    loud = StudyNight(
        signals=quiet.signals | {Modality.EEG: eeg + tone},
        usable_SL=quiet.usable_SL,
        stage_L=quiet.stage_L,
        apnea_L=quiet.apnea_L,
    )
    epochs = np.arange(6)
    gain_LF = band_powers(loud, epochs) - band_powers(quiet, epochs)
    assert (np.abs(gain_LF).argmax(1) == 4 + 4).all()  # after mean, deviation, least and greatest
