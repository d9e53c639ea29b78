"""Nights with known content for the table tests."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from sleepmami.psg import (
    MODALITIES,
    SEGMENT_S,
    STORED_RATE_HZ,
    ChannelDecision,
    ChannelStatistics,
    Decision,
    Modality,
    Night,
    segment_start_epochs,
)


def make_night(
    num_epochs: int,
    *,
    recording_id: str = "night",
    modalities: Collection[Modality] = MODALITIES,
    unusable: Mapping[Modality, Collection[int]] | None = None,
    hypnogram: bool = True,
    seed: int = 0,
) -> Night:
    """A night of noise over the whole int16 range; `unusable` lists bad epochs per modality."""
    generator = np.random.default_rng(seed)
    segments = len(segment_start_epochs(num_epochs))

    def noise(modality: Modality) -> NDArray[np.int16]:
        shape = (segments, SEGMENT_S * STORED_RATE_HZ[modality])
        return generator.integers(-32768, 32768, shape, dtype=np.int16)

    usable = {m: np.ones(num_epochs, np.bool_) for m in modalities}
    for modality, epochs in (unusable or {}).items():
        usable[modality][list(epochs)] = False
    return Night(
        recording_id=recording_id,
        num_epochs=num_epochs,
        signals={m: noise(m) for m in modalities},
        usable=usable,
        statistics={
            m: ChannelStatistics(mean=0.1 + i, std=1 / 3, unit="uV")
            for i, m in enumerate(modalities)
        },
        channels=(
            ChannelDecision(
                label="EEG C3-A2",
                modality=Modality.EEG,
                unit="uV",
                sample_rate_hz=125.0,
                decision=Decision.USED,
                reason="first choice",
                reference="EEG A2",
            ),
            ChannelDecision(
                label="Light",
                modality=None,
                unit="",
                sample_rate_hz=1 / 3,
                decision=Decision.IGNORED,
                reason="not a modality",
            ),
        ),
        hypnogram=generator.integers(-1, 5, num_epochs).astype(np.int8) if hypnogram else None,
    )


def assert_same_night(found: Night, expected: Night) -> None:
    """Equal bit by bit, types included."""
    assert (found.recording_id, found.num_epochs) == (expected.recording_id, expected.num_epochs)
    for name in ("signals", "usable"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert list(ours) == list(theirs)
        for modality in ours:
            assert ours[modality].dtype == theirs[modality].dtype
            np.testing.assert_array_equal(ours[modality], theirs[modality])
    assert found.statistics == expected.statistics
    assert found.channels == expected.channels
    if expected.hypnogram is None:
        assert found.hypnogram is None
    else:
        assert found.hypnogram is not None
        assert found.hypnogram.dtype == np.int8
        np.testing.assert_array_equal(found.hypnogram, expected.hypnogram)
